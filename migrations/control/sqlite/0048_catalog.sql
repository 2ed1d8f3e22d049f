-- Which catalogs of models have used this database, each by the newest release of the product that it knows (26 and 6 are
-- 26.6), and how often tables that exist have changed since it has known that release. A service whose catalog is older
-- than the greatest refuses the database.
CREATE TABLE causeway_catalog (
  year bigint NOT NULL,
  month bigint NOT NULL,
  revision bigint NOT NULL,
  PRIMARY KEY (year, month, revision)
);
