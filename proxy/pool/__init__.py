"""Who gets which server: bounds, waiters, lifetimes. Synchronous, no sockets, no clock."""
