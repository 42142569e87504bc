CREATE TABLE IF NOT EXISTS orders (
    id text PRIMARY KEY,
    item text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0)
);
