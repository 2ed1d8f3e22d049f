-- What the product calls a region, if it is not the name with which the region was started.
ALTER TABLE causeway_region ADD COLUMN product_name text;
