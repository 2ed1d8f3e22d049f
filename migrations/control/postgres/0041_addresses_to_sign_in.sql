-- Addresses by which people sign in are compared without regard to case.
CREATE INDEX IF NOT EXISTS causeway_auth_user_email_unique_lower_idx ON auth_user (lower(email_unique));
