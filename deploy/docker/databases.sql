-- The image of PostgreSQL makes causeway_control. These are for the regions; the last one is what its health waits for.
CREATE DATABASE causeway_us;
CREATE DATABASE causeway_de;
