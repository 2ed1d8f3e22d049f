-- The directory says of an organization what its region reported; its slug is that of its primary reservation, and is in
-- no other place. So no slug can stand for two organizations, and none for one that does not hold it.
DELETE FROM causeway_organization WHERE NOT EXISTS (
  SELECT 1 FROM causeway_organization_slug_reservation s
  WHERE s.organization_id = causeway_organization.organization_id AND s.region = causeway_organization.region
  AND s.type = 'primary'
);
ALTER TABLE causeway_organization DROP COLUMN slug;

-- An organization has one primary and one temporary reservation, whatever region asks: its id is unique across regions.
DROP INDEX causeway_organization_slug_reservation_organization_key;
CREATE UNIQUE INDEX causeway_organization_slug_reservation_organization_key
  ON causeway_organization_slug_reservation (organization_id, type)
  WHERE type IN ('primary', 'temporary_rename_alias');
