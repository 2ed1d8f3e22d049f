-- The model tables of the control silo: users and what else is unique everywhere.
-- Names and types are those of the product that makes the exports; relocation/catalog.json describes them.
-- Tables are created only where they are absent, so that a database which has some of them, whoever made them,
-- can be the target. No column has a default, because an import supplies every value. Times, UUIDs, arrays and
-- JSON are text.

CREATE TABLE IF NOT EXISTS "auth_user" (
  "id" INTEGER PRIMARY KEY,
  "password" varchar(128) NOT NULL,
  "last_login" text,
  "username" varchar(128) NOT NULL,
  "first_name" varchar(200) NOT NULL,
  "email" varchar(75) NOT NULL,
  "is_staff" boolean NOT NULL,
  "is_active" boolean NOT NULL,
  "is_unclaimed" boolean NOT NULL,
  "is_superuser" boolean NOT NULL,
  "is_managed" boolean NOT NULL,
  "is_sentry_app" boolean,
  "is_password_expired" boolean NOT NULL,
  "last_password_change" text,
  "flags" bigint,
  "session_nonce" varchar(12),
  "date_joined" text NOT NULL,
  "last_active" text,
  "avatar_type" smallint NOT NULL,
  "avatar_url" varchar(120),
  CONSTRAINT "auth_user_username_uniq" UNIQUE ("username")
);

CREATE TABLE IF NOT EXISTS "sentry_orgauthtoken" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL,
  "token_hashed" text NOT NULL,
  "token_last_characters" varchar(4),
  "name" varchar(255) NOT NULL,
  "scope_list" text,
  "created_by_id" bigint REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  "date_last_used" text,
  "project_last_used_id" bigint,
  "date_deactivated" text,
  CONSTRAINT "sentry_orgauthtoken_token_hashed_uniq" UNIQUE ("token_hashed")
);
CREATE INDEX IF NOT EXISTS "sentry_orgauthtoken_organization_id_idx" ON "sentry_orgauthtoken" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_orgauthtoken_created_by_id_idx" ON "sentry_orgauthtoken" ("created_by_id");
CREATE INDEX IF NOT EXISTS "sentry_orgauthtoken_project_last_used_id_idx" ON "sentry_orgauthtoken" ("project_last_used_id");

CREATE TABLE IF NOT EXISTS "sentry_email" (
  "id" INTEGER PRIMARY KEY,
  "email" text COLLATE NOCASE NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_email_email_uniq" UNIQUE ("email")
);

CREATE TABLE IF NOT EXISTS "sentry_useroption" (
  "id" INTEGER PRIMARY KEY,
  "user_id" bigint NOT NULL REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED,
  "project_id" bigint,
  "organization_id" bigint,
  "key" varchar(64) NOT NULL,
  "value" text NOT NULL,
  CONSTRAINT "sentry_useroption_key_organization_id_user_id_uniq" UNIQUE ("key", "organization_id", "user_id"),
  CONSTRAINT "sentry_useroption_key_project_id_user_id_uniq" UNIQUE ("key", "project_id", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_useroption_user_id_idx" ON "sentry_useroption" ("user_id");
CREATE INDEX IF NOT EXISTS "sentry_useroption_project_id_idx" ON "sentry_useroption" ("project_id");
CREATE INDEX IF NOT EXISTS "sentry_useroption_organization_id_idx" ON "sentry_useroption" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_useremail" (
  "id" INTEGER PRIMARY KEY,
  "user_id" bigint NOT NULL REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED,
  "email" varchar(75) NOT NULL,
  "validation_hash" varchar(32) NOT NULL,
  "date_hash_added" text NOT NULL,
  "is_verified" boolean NOT NULL,
  CONSTRAINT "sentry_useremail_email_user_id_uniq" UNIQUE ("email", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_useremail_user_id_idx" ON "sentry_useremail" ("user_id");
