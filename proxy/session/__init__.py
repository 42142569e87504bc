"""What a client's statements mean for the server under it. No sockets, no clock."""
