-- The model tables of the region silo: organizations and everything that hangs from them.
-- Names and types are those of the product that makes the exports; relocation/catalog.json describes them.
-- Tables are created only where they are absent, so that a database which has some of them, whoever made them,
-- can be the target. No column has a default, because an import supplies every value. Times, UUIDs, arrays and
-- JSON are text.

CREATE TABLE IF NOT EXISTS "sentry_organization" (
  "id" INTEGER PRIMARY KEY,
  "name" varchar(64) NOT NULL,
  "slug" varchar(50) NOT NULL,
  "status" integer NOT NULL,
  "date_added" text NOT NULL,
  "default_role" varchar(32) NOT NULL,
  "is_test" boolean NOT NULL,
  "flags" bigint NOT NULL,
  CONSTRAINT "sentry_organization_slug_uniq" UNIQUE ("slug")
);

CREATE TABLE IF NOT EXISTS "sentry_organizationoptions" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "key" varchar(64) NOT NULL,
  "value" text NOT NULL,
  CONSTRAINT "sentry_organizationoptions_key_organization_id_uniq" UNIQUE ("key", "organization_id")
);
CREATE INDEX IF NOT EXISTS "sentry_organizationoptions_organization_id_idx" ON "sentry_organizationoptions" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_projecttemplate" (
  "id" INTEGER PRIMARY KEY,
  "date_updated" text NOT NULL,
  "date_added" text,
  "name" varchar(200) NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT "sentry_projecttemplate_name_organization_id_uniq" UNIQUE ("name", "organization_id")
);
CREATE INDEX IF NOT EXISTS "sentry_projecttemplate_organization_id_idx" ON "sentry_projecttemplate" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_projecttemplateoption" (
  "id" INTEGER PRIMARY KEY,
  "project_template_id" bigint NOT NULL REFERENCES "sentry_projecttemplate" ("id") DEFERRABLE INITIALLY DEFERRED,
  "key" varchar(64) NOT NULL,
  "value" text NOT NULL,
  CONSTRAINT "sentry_projecttemplateoption_key_project_template_id_uniq" UNIQUE ("key", "project_template_id")
);
CREATE INDEX IF NOT EXISTS "sentry_projecttemplateoption_project_template_id_idx" ON "sentry_projecttemplateoption" ("project_template_id");

CREATE TABLE IF NOT EXISTS "sentry_team" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "slug" varchar(50) NOT NULL,
  "name" varchar(64) NOT NULL,
  "status" integer NOT NULL,
  "idp_provisioned" boolean NOT NULL,
  "date_added" text,
  CONSTRAINT "sentry_team_organization_id_slug_uniq" UNIQUE ("organization_id", "slug")
);

CREATE TABLE IF NOT EXISTS "sentry_savedsearch" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "type" smallint,
  "name" varchar(128) NOT NULL,
  "query" text NOT NULL,
  "sort" text,
  "date_added" text NOT NULL,
  "is_global" boolean,
  "owner_id" bigint,
  "visibility" varchar(16) NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS "sentry_savedsearch_is_global_name_uniq" ON "sentry_savedsearch" ("is_global", "name") WHERE "is_global" = true;
CREATE UNIQUE INDEX IF NOT EXISTS "sentry_savedsearch_organization_id_owner_id_type_uniq" ON "sentry_savedsearch" ("organization_id", "owner_id", "type") WHERE "visibility" = 'owner_pinned';
CREATE INDEX IF NOT EXISTS "sentry_savedsearch_organization_id_idx" ON "sentry_savedsearch" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_savedsearch_owner_id_idx" ON "sentry_savedsearch" ("owner_id");

CREATE TABLE IF NOT EXISTS "sentry_recentsearch" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint NOT NULL,
  "type" smallint NOT NULL,
  "query" text NOT NULL,
  "query_hash" varchar(32) NOT NULL,
  "last_seen" text NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_recentsearch_organization_id_query_hash_ty_2e470351_uniq" UNIQUE ("organization_id", "query_hash", "type", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_recentsearch_user_id_idx" ON "sentry_recentsearch" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_project" (
  "id" INTEGER PRIMARY KEY,
  "slug" varchar(50),
  "name" varchar(200) NOT NULL,
  "forced_color" varchar(6),
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "public" boolean NOT NULL,
  "date_added" text NOT NULL,
  "status" integer NOT NULL,
  "first_event" text,
  "template_id" bigint REFERENCES "sentry_projecttemplate" ("id") DEFERRABLE INITIALLY DEFERRED,
  "flags" bigint,
  "platform" varchar(64),
  CONSTRAINT "sentry_project_organization_id_slug_uniq" UNIQUE ("organization_id", "slug")
);
CREATE INDEX IF NOT EXISTS "sentry_project_template_id_idx" ON "sentry_project" ("template_id");

CREATE TABLE IF NOT EXISTS "sentry_organizationmember" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint,
  "email" varchar(75),
  "role" varchar(32) NOT NULL,
  "flags" bigint NOT NULL,
  "token" varchar(64),
  "date_added" text NOT NULL,
  "token_expires_at" text,
  "has_global_access" boolean NOT NULL,
  "inviter_id" bigint,
  "invite_status" smallint,
  "type" integer NOT NULL,
  "user_is_active" boolean NOT NULL,
  "user_email" varchar(75),
  CONSTRAINT "sentry_organizationmember_email_organization_id_uniq" UNIQUE ("email", "organization_id"),
  CONSTRAINT "sentry_organizationmember_organization_id_user_id_uniq" UNIQUE ("organization_id", "user_id"),
  CONSTRAINT "sentry_organizationmember_token_uniq" UNIQUE ("token")
);
CREATE INDEX IF NOT EXISTS "sentry_organizationmember_user_id_idx" ON "sentry_organizationmember" ("user_id");
CREATE INDEX IF NOT EXISTS "sentry_organizationmember_inviter_id_idx" ON "sentry_organizationmember" ("inviter_id");

CREATE TABLE IF NOT EXISTS "sentry_organizationaccessrequest" (
  "id" INTEGER PRIMARY KEY,
  "team_id" bigint NOT NULL REFERENCES "sentry_team" ("id") DEFERRABLE INITIALLY DEFERRED,
  "member_id" bigint NOT NULL REFERENCES "sentry_organizationmember" ("id") DEFERRABLE INITIALLY DEFERRED,
  "requester_id" bigint,
  CONSTRAINT "sentry_organizationaccessrequest_member_id_team_id_uniq" UNIQUE ("member_id", "team_id")
);
CREATE INDEX IF NOT EXISTS "sentry_organizationaccessrequest_team_id_idx" ON "sentry_organizationaccessrequest" ("team_id");
CREATE INDEX IF NOT EXISTS "sentry_organizationaccessrequest_requester_id_idx" ON "sentry_organizationaccessrequest" ("requester_id");

CREATE TABLE IF NOT EXISTS "sentry_monitor" (
  "id" INTEGER PRIMARY KEY,
  "date_added" text NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "status" integer NOT NULL,
  "guid" text NOT NULL,
  "slug" varchar(50) NOT NULL,
  "is_muted" boolean NOT NULL,
  "name" varchar(128) NOT NULL,
  "type" integer NOT NULL,
  "owner_user_id" bigint,
  "owner_team_id" bigint,
  "config" text NOT NULL,
  CONSTRAINT "sentry_monitor_guid_uniq" UNIQUE ("guid"),
  CONSTRAINT "sentry_monitor_project_id_slug_uniq" UNIQUE ("project_id", "slug")
);
CREATE INDEX IF NOT EXISTS "sentry_monitor_organization_id_idx" ON "sentry_monitor" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_monitor_owner_user_id_idx" ON "sentry_monitor" ("owner_user_id");

CREATE TABLE IF NOT EXISTS "sentry_groupsearchview" (
  "id" INTEGER PRIMARY KEY,
  "date_updated" text NOT NULL,
  "date_added" text,
  "name" text NOT NULL,
  "user_id" bigint NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "query" text NOT NULL,
  "query_sort" varchar(16) NOT NULL,
  "position" smallint NOT NULL,
  CONSTRAINT "sentry_groupsearchview_organization_id_position_user_id_uniq" UNIQUE ("organization_id", "position", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_groupsearchview_user_id_idx" ON "sentry_groupsearchview" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_environment" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "name" varchar(64) NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_environment_name_organization_id_uniq" UNIQUE ("name", "organization_id")
);
CREATE INDEX IF NOT EXISTS "sentry_environment_organization_id_idx" ON "sentry_environment" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_dashboardtombstone" (
  "id" INTEGER PRIMARY KEY,
  "slug" varchar(255) NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_dashboardtombstone_organization_id_slug_uniq" UNIQUE ("organization_id", "slug")
);

CREATE TABLE IF NOT EXISTS "sentry_dashboard" (
  "id" INTEGER PRIMARY KEY,
  "title" varchar(255) NOT NULL,
  "created_by_id" bigint NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  "visits" bigint,
  "last_visited" text,
  "filters" text,
  CONSTRAINT "sentry_dashboard_organization_id_title_uniq" UNIQUE ("organization_id", "title")
);
CREATE INDEX IF NOT EXISTS "sentry_dashboard_created_by_id_idx" ON "sentry_dashboard" ("created_by_id");

CREATE TABLE IF NOT EXISTS "sentry_customdynamicsamplingrule" (
  "id" INTEGER PRIMARY KEY,
  "date_added" text NOT NULL,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "is_active" boolean NOT NULL,
  "is_org_level" boolean NOT NULL,
  "rule_id" integer NOT NULL,
  "condition" text NOT NULL,
  "sample_rate" double precision NOT NULL,
  "start_date" text NOT NULL,
  "end_date" text NOT NULL,
  "num_samples" integer NOT NULL,
  "condition_hash" varchar(40) NOT NULL,
  "query" text,
  "created_by_id" bigint,
  "notification_sent" boolean
);
CREATE INDEX IF NOT EXISTS "sentry_customdynamicsamplingrule_organization_id_idx" ON "sentry_customdynamicsamplingrule" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_customdynamicsamplingrule_created_by_id_idx" ON "sentry_customdynamicsamplingrule" ("created_by_id");

CREATE TABLE IF NOT EXISTS "sentry_projectcounter" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "value" bigint NOT NULL,
  CONSTRAINT "sentry_projectcounter_project_id_uniq" UNIQUE ("project_id")
);

CREATE TABLE IF NOT EXISTS "sentry_spanattributeextractionruleconfig" (
  "id" INTEGER PRIMARY KEY,
  "date_updated" text NOT NULL,
  "date_added" text,
  "created_by_id" bigint,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "span_attribute" varchar(1000) NOT NULL,
  "unit" varchar(100) NOT NULL,
  "tags" text,
  "aggregates" text,
  CONSTRAINT "sentry_spanattributeextractionruleconfig_project_504a9a34_uniq" UNIQUE ("project_id", "span_attribute")
);
CREATE INDEX IF NOT EXISTS "sentry_spanattributeextractionruleconfig_created_by_id_idx" ON "sentry_spanattributeextractionruleconfig" ("created_by_id");

CREATE TABLE IF NOT EXISTS "sentry_spanattributeextractionrulecondition" (
  "id" INTEGER PRIMARY KEY,
  "date_updated" text NOT NULL,
  "date_added" text,
  "created_by_id" bigint,
  "value" varchar(1000),
  "config_id" bigint NOT NULL REFERENCES "sentry_spanattributeextractionruleconfig" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX IF NOT EXISTS "sentry_spanattributeextractionrulecondition_created_by_id_idx" ON "sentry_spanattributeextractionrulecondition" ("created_by_id");
CREATE INDEX IF NOT EXISTS "sentry_spanattributeextractionrulecondition_config_id_idx" ON "sentry_spanattributeextractionrulecondition" ("config_id");

CREATE TABLE IF NOT EXISTS "sentry_snubaquery" (
  "id" INTEGER PRIMARY KEY,
  "environment_id" bigint REFERENCES "sentry_environment" ("id") DEFERRABLE INITIALLY DEFERRED,
  "type" smallint NOT NULL,
  "dataset" text NOT NULL,
  "query" text NOT NULL,
  "aggregate" text NOT NULL,
  "time_window" integer NOT NULL,
  "resolution" integer NOT NULL,
  "date_added" text NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_snubaquery_environment_id_idx" ON "sentry_snubaquery" ("environment_id");

CREATE TABLE IF NOT EXISTS "sentry_rule" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "environment_id" integer REFERENCES "sentry_environment" ("id") DEFERRABLE INITIALLY DEFERRED,
  "label" varchar(256) NOT NULL,
  "data" text NOT NULL,
  "status" integer NOT NULL,
  "source" integer NOT NULL,
  "owner_user_id" bigint,
  "owner_team_id" bigint REFERENCES "sentry_team" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_rule_project_id_idx" ON "sentry_rule" ("project_id");
CREATE INDEX IF NOT EXISTS "sentry_rule_environment_id_idx" ON "sentry_rule" ("environment_id");
CREATE INDEX IF NOT EXISTS "sentry_rule_owner_user_id_idx" ON "sentry_rule" ("owner_user_id");
CREATE INDEX IF NOT EXISTS "sentry_rule_owner_team_id_idx" ON "sentry_rule" ("owner_team_id");

CREATE TABLE IF NOT EXISTS "sentry_querysubscription" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "snuba_query_id" bigint REFERENCES "sentry_snubaquery" ("id") DEFERRABLE INITIALLY DEFERRED,
  "type" text NOT NULL,
  "status" smallint NOT NULL,
  "subscription_id" text,
  "date_added" text NOT NULL,
  "date_updated" text,
  "query_extra" text,
  CONSTRAINT "sentry_querysubscription_subscription_id_uniq" UNIQUE ("subscription_id")
);
CREATE INDEX IF NOT EXISTS "sentry_querysubscription_project_id_idx" ON "sentry_querysubscription" ("project_id");
CREATE INDEX IF NOT EXISTS "sentry_querysubscription_snuba_query_id_idx" ON "sentry_querysubscription" ("snuba_query_id");

CREATE TABLE IF NOT EXISTS "sentry_projectteam" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "team_id" bigint NOT NULL REFERENCES "sentry_team" ("id") DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT "sentry_projectteam_project_id_team_id_uniq" UNIQUE ("project_id", "team_id")
);
CREATE INDEX IF NOT EXISTS "sentry_projectteam_team_id_idx" ON "sentry_projectteam" ("team_id");

CREATE TABLE IF NOT EXISTS "sentry_projectredirect" (
  "id" INTEGER PRIMARY KEY,
  "redirect_slug" varchar(50) NOT NULL,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_projectredirect_organization_id_redirect_slug_uniq" UNIQUE ("organization_id", "redirect_slug")
);
CREATE INDEX IF NOT EXISTS "sentry_projectredirect_project_id_idx" ON "sentry_projectredirect" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_projectownership" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "raw" text,
  "schema" text,
  "fallthrough" boolean NOT NULL,
  "auto_assignment" boolean NOT NULL,
  "date_created" text NOT NULL,
  "last_updated" text NOT NULL,
  "is_active" boolean NOT NULL,
  "codeowners_auto_sync" boolean,
  "suspect_committer_auto_assignment" boolean NOT NULL,
  CONSTRAINT "sentry_projectownership_project_id_uniq" UNIQUE ("project_id")
);

CREATE TABLE IF NOT EXISTS "sentry_projectoptions" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "key" varchar(64) NOT NULL,
  "value" text NOT NULL,
  CONSTRAINT "sentry_projectoptions_key_project_id_uniq" UNIQUE ("key", "project_id")
);
CREATE INDEX IF NOT EXISTS "sentry_projectoptions_project_id_idx" ON "sentry_projectoptions" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_projectkey" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "label" varchar(64),
  "public_key" varchar(32),
  "secret_key" varchar(32),
  "roles" bigint NOT NULL,
  "status" integer NOT NULL,
  "date_added" text,
  "rate_limit_count" integer,
  "rate_limit_window" integer,
  "data" text NOT NULL,
  "use_case" varchar(32) NOT NULL,
  CONSTRAINT "sentry_projectkey_public_key_uniq" UNIQUE ("public_key"),
  CONSTRAINT "sentry_projectkey_secret_key_uniq" UNIQUE ("secret_key")
);
CREATE INDEX IF NOT EXISTS "sentry_projectkey_project_id_idx" ON "sentry_projectkey" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_projectbookmark" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint NOT NULL,
  "date_added" text,
  CONSTRAINT "sentry_projectbookmark_project_id_user_id_uniq" UNIQUE ("project_id", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_projectbookmark_user_id_idx" ON "sentry_projectbookmark" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_organizationmember_teams" (
  "id" INTEGER PRIMARY KEY,
  "team_id" bigint NOT NULL REFERENCES "sentry_team" ("id") DEFERRABLE INITIALLY DEFERRED,
  "organizationmember_id" bigint NOT NULL REFERENCES "sentry_organizationmember" ("id") DEFERRABLE INITIALLY DEFERRED,
  "is_active" boolean NOT NULL,
  "role" varchar(32),
  CONSTRAINT "sentry_organizationmember_teams_organizationmembe_975dcc17_uniq" UNIQUE ("organizationmember_id", "team_id")
);
CREATE INDEX IF NOT EXISTS "sentry_organizationmember_teams_team_id_idx" ON "sentry_organizationmember_teams" ("team_id");

CREATE TABLE IF NOT EXISTS "sentry_notificationaction" (
  "id" INTEGER PRIMARY KEY,
  "integration_id" bigint,
  "sentry_app_id" bigint,
  "type" smallint NOT NULL,
  "target_type" smallint NOT NULL,
  "target_identifier" text,
  "target_display" text,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "trigger_type" smallint NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_notificationaction_integration_id_idx" ON "sentry_notificationaction" ("integration_id");
CREATE INDEX IF NOT EXISTS "sentry_notificationaction_sentry_app_id_idx" ON "sentry_notificationaction" ("sentry_app_id");
CREATE INDEX IF NOT EXISTS "sentry_notificationaction_organization_id_idx" ON "sentry_notificationaction" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_neglectedrule" (
  "id" INTEGER PRIMARY KEY,
  "rule_id" bigint NOT NULL REFERENCES "sentry_rule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "disable_date" text NOT NULL,
  "opted_out" boolean NOT NULL,
  "sent_initial_email_date" text,
  "sent_final_email_date" text
);
CREATE INDEX IF NOT EXISTS "sentry_neglectedrule_rule_id_idx" ON "sentry_neglectedrule" ("rule_id");
CREATE INDEX IF NOT EXISTS "sentry_neglectedrule_organization_id_idx" ON "sentry_neglectedrule" ("organization_id");

CREATE TABLE IF NOT EXISTS "sentry_environmentproject" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "environment_id" bigint NOT NULL REFERENCES "sentry_environment" ("id") DEFERRABLE INITIALLY DEFERRED,
  "is_hidden" boolean,
  CONSTRAINT "sentry_environmentproject_environment_id_project_id_uniq" UNIQUE ("environment_id", "project_id")
);
CREATE INDEX IF NOT EXISTS "sentry_environmentproject_project_id_idx" ON "sentry_environmentproject" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_dashboardwidget" (
  "id" INTEGER PRIMARY KEY,
  "dashboard_id" bigint NOT NULL REFERENCES "sentry_dashboard" ("id") DEFERRABLE INITIALLY DEFERRED,
  "order" integer NOT NULL,
  "title" varchar(255) NOT NULL,
  "description" varchar(255),
  "thresholds" text,
  "interval" varchar(10),
  "display_type" integer NOT NULL,
  "date_added" text NOT NULL,
  "widget_type" integer,
  "limit" integer,
  "detail" text,
  "discover_widget_split" integer,
  CONSTRAINT "sentry_dashboardwidget_dashboard_id_order_uniq" UNIQUE ("dashboard_id", "order")
);

CREATE TABLE IF NOT EXISTS "sentry_customdynamicsamplingruleproject" (
  "id" INTEGER PRIMARY KEY,
  "custom_dynamic_sampling_rule_id" bigint NOT NULL REFERENCES "sentry_customdynamicsamplingrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT "sentry_customdynamicsamplingruleproject_custom_dy_704a322a_uniq" UNIQUE ("custom_dynamic_sampling_rule_id", "project_id")
);
CREATE INDEX IF NOT EXISTS "sentry_customdynamicsamplingruleproject_project_id_idx" ON "sentry_customdynamicsamplingruleproject" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_alertrule" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "snuba_query_id" bigint REFERENCES "sentry_snubaquery" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint,
  "team_id" bigint REFERENCES "sentry_team" ("id") DEFERRABLE INITIALLY DEFERRED,
  "name" text NOT NULL,
  "status" smallint NOT NULL,
  "include_all_projects" boolean NOT NULL,
  "threshold_type" smallint,
  "resolve_threshold" double precision,
  "threshold_period" integer NOT NULL,
  "comparison_delta" integer,
  "date_modified" text NOT NULL,
  "date_added" text NOT NULL,
  "monitor_type" integer NOT NULL,
  "description" varchar(1000),
  CONSTRAINT "sentry_alertrule_snuba_query_id_uniq" UNIQUE ("snuba_query_id")
);
CREATE INDEX IF NOT EXISTS "sentry_alertrule_organization_id_idx" ON "sentry_alertrule" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_alertrule_user_id_idx" ON "sentry_alertrule" ("user_id");
CREATE INDEX IF NOT EXISTS "sentry_alertrule_team_id_idx" ON "sentry_alertrule" ("team_id");

CREATE TABLE IF NOT EXISTS "sentry_snubaqueryeventtype" (
  "id" INTEGER PRIMARY KEY,
  "snuba_query_id" bigint NOT NULL REFERENCES "sentry_snubaquery" ("id") DEFERRABLE INITIALLY DEFERRED,
  "type" smallint NOT NULL,
  CONSTRAINT "sentry_snubaqueryeventtype_snuba_query_id_type_uniq" UNIQUE ("snuba_query_id", "type")
);

CREATE TABLE IF NOT EXISTS "sentry_rulesnooze" (
  "id" INTEGER PRIMARY KEY,
  "user_id" bigint,
  "owner_id" bigint,
  "rule_id" bigint REFERENCES "sentry_rule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "alert_rule_id" bigint REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "until" text,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_rulesnooze_alert_rule_id_user_id_uniq" UNIQUE ("alert_rule_id", "user_id"),
  CONSTRAINT "sentry_rulesnooze_rule_id_user_id_uniq" UNIQUE ("rule_id", "user_id")
);
CREATE UNIQUE INDEX IF NOT EXISTS "sentry_rulesnooze_alert_rule_id_uniq" ON "sentry_rulesnooze" ("alert_rule_id") WHERE "user_id" IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS "sentry_rulesnooze_rule_id_uniq" ON "sentry_rulesnooze" ("rule_id") WHERE "user_id" IS NULL;
CREATE INDEX IF NOT EXISTS "sentry_rulesnooze_user_id_idx" ON "sentry_rulesnooze" ("user_id");
CREATE INDEX IF NOT EXISTS "sentry_rulesnooze_owner_id_idx" ON "sentry_rulesnooze" ("owner_id");

CREATE TABLE IF NOT EXISTS "sentry_ruleactivity" (
  "id" INTEGER PRIMARY KEY,
  "rule_id" bigint NOT NULL REFERENCES "sentry_rule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint,
  "type" integer NOT NULL,
  "date_added" text NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_ruleactivity_rule_id_idx" ON "sentry_ruleactivity" ("rule_id");
CREATE INDEX IF NOT EXISTS "sentry_ruleactivity_user_id_idx" ON "sentry_ruleactivity" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_notificationactionproject" (
  "id" INTEGER PRIMARY KEY,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "action_id" bigint NOT NULL REFERENCES "sentry_notificationaction" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX IF NOT EXISTS "sentry_notificationactionproject_project_id_idx" ON "sentry_notificationactionproject" ("project_id");
CREATE INDEX IF NOT EXISTS "sentry_notificationactionproject_action_id_idx" ON "sentry_notificationactionproject" ("action_id");

CREATE TABLE IF NOT EXISTS "sentry_dashboardwidgetquery" (
  "id" INTEGER PRIMARY KEY,
  "widget_id" bigint NOT NULL REFERENCES "sentry_dashboardwidget" ("id") DEFERRABLE INITIALLY DEFERRED,
  "name" varchar(255) NOT NULL,
  "fields" text,
  "conditions" text NOT NULL,
  "aggregates" text,
  "columns" text,
  "field_aliases" text,
  "orderby" text NOT NULL,
  "order" integer NOT NULL,
  "date_added" text NOT NULL,
  "date_modified" text NOT NULL,
  "is_hidden" boolean NOT NULL,
  CONSTRAINT "sentry_dashboardwidgetquery_order_widget_id_uniq" UNIQUE ("order", "widget_id")
);
CREATE INDEX IF NOT EXISTS "sentry_dashboardwidgetquery_widget_id_idx" ON "sentry_dashboardwidgetquery" ("widget_id");

CREATE TABLE IF NOT EXISTS "sentry_alertruletrigger" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "label" text NOT NULL,
  "threshold_type" smallint,
  "alert_threshold" double precision NOT NULL,
  "resolve_threshold" double precision,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_alertruletrigger_alert_rule_id_label_uniq" UNIQUE ("alert_rule_id", "label")
);

CREATE TABLE IF NOT EXISTS "sentry_alertruleprojects" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_alertruleprojects_alert_rule_id_project_id_uniq" UNIQUE ("alert_rule_id", "project_id")
);
CREATE INDEX IF NOT EXISTS "sentry_alertruleprojects_project_id_idx" ON "sentry_alertruleprojects" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_alertruleexcludedprojects" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "project_id" bigint NOT NULL REFERENCES "sentry_project" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_alertruleexcludedprojects_alert_rule_id_project_id_uniq" UNIQUE ("alert_rule_id", "project_id")
);
CREATE INDEX IF NOT EXISTS "sentry_alertruleexcludedprojects_project_id_idx" ON "sentry_alertruleexcludedprojects" ("project_id");

CREATE TABLE IF NOT EXISTS "sentry_alertruleactivity" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "previous_alert_rule_id" bigint REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint,
  "type" integer NOT NULL,
  "date_added" text NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_alertruleactivity_alert_rule_id_idx" ON "sentry_alertruleactivity" ("alert_rule_id");
CREATE INDEX IF NOT EXISTS "sentry_alertruleactivity_previous_alert_rule_id_idx" ON "sentry_alertruleactivity" ("previous_alert_rule_id");
CREATE INDEX IF NOT EXISTS "sentry_alertruleactivity_user_id_idx" ON "sentry_alertruleactivity" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_alertruleactivationcondition" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "label" text NOT NULL,
  "condition_type" smallint,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_alertruleactivationcondition_alert_rule_id_label_uniq" UNIQUE ("alert_rule_id", "label")
);

CREATE TABLE IF NOT EXISTS "sentry_incident" (
  "id" INTEGER PRIMARY KEY,
  "organization_id" bigint NOT NULL REFERENCES "sentry_organization" ("id") DEFERRABLE INITIALLY DEFERRED,
  "alert_rule_id" bigint NOT NULL REFERENCES "sentry_alertrule" ("id") DEFERRABLE INITIALLY DEFERRED,
  "identifier" integer NOT NULL,
  "detection_uuid" text,
  "status" smallint NOT NULL,
  "status_method" smallint NOT NULL,
  "type" smallint NOT NULL,
  "title" text NOT NULL,
  "date_started" text NOT NULL,
  "date_detected" text NOT NULL,
  "date_added" text NOT NULL,
  "date_closed" text,
  "activation_id" bigint,
  "subscription_id" bigint REFERENCES "sentry_querysubscription" ("id") DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT "sentry_incident_identifier_organization_id_uniq" UNIQUE ("identifier", "organization_id")
);
CREATE INDEX IF NOT EXISTS "sentry_incident_organization_id_idx" ON "sentry_incident" ("organization_id");
CREATE INDEX IF NOT EXISTS "sentry_incident_alert_rule_id_idx" ON "sentry_incident" ("alert_rule_id");
CREATE INDEX IF NOT EXISTS "sentry_incident_activation_id_idx" ON "sentry_incident" ("activation_id");
CREATE INDEX IF NOT EXISTS "sentry_incident_subscription_id_idx" ON "sentry_incident" ("subscription_id");

CREATE TABLE IF NOT EXISTS "sentry_dashboardwidgetqueryondemand" (
  "id" INTEGER PRIMARY KEY,
  "dashboard_widget_query_id" bigint NOT NULL REFERENCES "sentry_dashboardwidgetquery" ("id") DEFERRABLE INITIALLY DEFERRED,
  "spec_hashes" text,
  "spec_version" integer,
  "extraction_state" varchar(30) NOT NULL,
  "date_modified" text NOT NULL,
  "date_added" text NOT NULL
);
CREATE INDEX IF NOT EXISTS "sentry_dashboardwidgetqueryondemand_dashboard_widg_74a4e5f8_idx" ON "sentry_dashboardwidgetqueryondemand" ("dashboard_widget_query_id");

CREATE TABLE IF NOT EXISTS "sentry_alertruletriggerexclusion" (
  "id" INTEGER PRIMARY KEY,
  "alert_rule_trigger_id" bigint NOT NULL REFERENCES "sentry_alertruletrigger" ("id") DEFERRABLE INITIALLY DEFERRED,
  "query_subscription_id" bigint NOT NULL REFERENCES "sentry_querysubscription" ("id") DEFERRABLE INITIALLY DEFERRED,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_alertruletriggerexclusion_alert_rule_trigg_aae63de9_uniq" UNIQUE ("alert_rule_trigger_id", "query_subscription_id")
);
CREATE INDEX IF NOT EXISTS "sentry_alertruletriggerexclusion_query_subscription_id_idx" ON "sentry_alertruletriggerexclusion" ("query_subscription_id");

CREATE TABLE IF NOT EXISTS "sentry_timeseriessnapshot" (
  "id" INTEGER PRIMARY KEY,
  "start" text NOT NULL,
  "end" text NOT NULL,
  "values" text,
  "period" integer NOT NULL,
  "date_added" text NOT NULL
);

CREATE TABLE IF NOT EXISTS "sentry_pendingincidentsnapshot" (
  "id" INTEGER PRIMARY KEY,
  "incident_id" bigint NOT NULL REFERENCES "sentry_incident" ("id") DEFERRABLE INITIALLY DEFERRED,
  "target_run_date" text NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_pendingincidentsnapshot_incident_id_uniq" UNIQUE ("incident_id")
);

CREATE TABLE IF NOT EXISTS "sentry_incidenttrigger" (
  "id" INTEGER PRIMARY KEY,
  "incident_id" bigint NOT NULL REFERENCES "sentry_incident" ("id") DEFERRABLE INITIALLY DEFERRED,
  "alert_rule_trigger_id" bigint NOT NULL REFERENCES "sentry_alertruletrigger" ("id") DEFERRABLE INITIALLY DEFERRED,
  "status" smallint NOT NULL,
  "date_modified" text NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_incidenttrigger_alert_rule_trigger_id_incident_id_uniq" UNIQUE ("alert_rule_trigger_id", "incident_id")
);
CREATE INDEX IF NOT EXISTS "sentry_incidenttrigger_incident_id_idx" ON "sentry_incidenttrigger" ("incident_id");

CREATE TABLE IF NOT EXISTS "sentry_incidentsubscription" (
  "id" INTEGER PRIMARY KEY,
  "incident_id" bigint NOT NULL REFERENCES "sentry_incident" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_incidentsubscription_incident_id_user_id_uniq" UNIQUE ("incident_id", "user_id")
);
CREATE INDEX IF NOT EXISTS "sentry_incidentsubscription_user_id_idx" ON "sentry_incidentsubscription" ("user_id");

CREATE TABLE IF NOT EXISTS "sentry_incidentsnapshot" (
  "id" INTEGER PRIMARY KEY,
  "incident_id" bigint NOT NULL REFERENCES "sentry_incident" ("id") DEFERRABLE INITIALLY DEFERRED,
  "event_stats_snapshot_id" bigint NOT NULL REFERENCES "sentry_timeseriessnapshot" ("id") DEFERRABLE INITIALLY DEFERRED,
  "unique_users" integer NOT NULL,
  "total_events" integer NOT NULL,
  "date_added" text NOT NULL,
  CONSTRAINT "sentry_incidentsnapshot_incident_id_uniq" UNIQUE ("incident_id")
);
CREATE INDEX IF NOT EXISTS "sentry_incidentsnapshot_event_stats_snapshot_id_idx" ON "sentry_incidentsnapshot" ("event_stats_snapshot_id");

CREATE TABLE IF NOT EXISTS "sentry_incidentactivity" (
  "id" INTEGER PRIMARY KEY,
  "incident_id" bigint NOT NULL REFERENCES "sentry_incident" ("id") DEFERRABLE INITIALLY DEFERRED,
  "user_id" bigint,
  "type" integer NOT NULL,
  "value" text,
  "previous_value" text,
  "comment" text,
  "date_added" text NOT NULL,
  "notification_uuid" text
);
CREATE INDEX IF NOT EXISTS "sentry_incidentactivity_incident_id_idx" ON "sentry_incidentactivity" ("incident_id");
CREATE INDEX IF NOT EXISTS "sentry_incidentactivity_user_id_idx" ON "sentry_incidentactivity" ("user_id");
