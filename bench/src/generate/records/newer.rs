//! Records of models that came after 24.8: detectors and workflows, views, saved queries, favorites, invitations.

use serde_json::json;

use super::{
    super::{
        Release,
        shape::{Model, Organization, pk},
        text,
    },
    Fields, member,
};

pub(super) fn fields(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    if model == Model::DashboardPermissions {
        f.number("dashboard", o.pk(Model::Dashboard, number));
        if o.release < Release::R25_6 {
            let only = f.random.one_in(2);
            f.flag("is_creator_only_editable", only);
        } else {
            f.flag("is_editable_by_everyone", true);
        }
        return;
    }
    if model == Model::ExploreSavedQueryProject {
        f.number("project", o.pk(Model::Project, number));
        f.number("explore_saved_query", o.pk(Model::ExploreSavedQuery, number));
        return;
    }
    f.time("date_updated");
    f.time("date_added");
    match model {
        Model::GroupSearchView | Model::GroupSearchViewStarred => views(f, o, model, number),
        Model::DashboardFavoriteUser => {
            f.number("user_id", member(o, 0));
            f.number("dashboard", o.pk(Model::Dashboard, number));
            if o.release >= Release::R25_6 {
                f.number("organization", o.pk(Model::Organization, 0));
                f.number("position", number);
            }
            if o.release >= Release::R26_6 {
                f.flag("favorited", true);
            }
        }
        Model::ExploreSavedQuery => {
            f.number("organization", o.pk(Model::Organization, 0));
            f.number("created_by_id", member(o, number));
            let name = text::words(&mut f.random, 3);
            f.text("name", &name);
            let query = format!("project.id:{}", o.pk(Model::Project, number));
            f.json("query", &json!({"query": [{"query": query, "fields": ["id"]}], "range": "24h"}));
            f.number("visits", 1);
            f.time("last_visited");
            f.number("dataset", 101);
            f.flag("is_multi_query", false);
        }
        Model::OrganizationMemberInvite => invite(f, o, number),
        _ => workflows(f, o, model, number),
    }
}

fn views(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    f.number("user_id", member(o, number));
    f.number("organization", o.pk(Model::Organization, 0));
    if model == Model::GroupSearchViewStarred {
        f.number("group_search_view", o.pk(Model::GroupSearchView, number));
        f.number("position", 0);
        return;
    }
    let name = text::words(&mut f.random, 2);
    f.text("name", &name);
    f.text("query", &format!("is:unresolved project.id:{}", o.pk(Model::Project, number)));
    f.text("query_sort", "date");
    if o.release < Release::R25_6 {
        f.number("position", 0);
    } else {
        f.text("visibility", "organization");
    }
    if o.release >= Release::R25_1 {
        f.flag("is_all_projects", false);
        f.json("environments", &json!([]));
        f.json("time_filters", &json!({"period": "14d"}));
    }
    if o.release == Release::R25_1 {
        // Exports have lists of numbers as texts. -1 means all projects.
        let projects = match number % 3 {
            0 => "[]".to_owned(),
            1 => "[-1]".to_owned(),
            _ => format!("[{}]", o.pk(Model::Project, number)),
        };
        f.text("projects", &projects);
    }
}

/// The invitation of one of the last members, who have no user.
fn invite(f: &mut Fields<'_>, o: &Organization, number: u64) {
    let members = o.counts.of(Model::OrganizationMember);
    let number = members.saturating_sub(number + 1);
    f.number("organization", o.pk(Model::Organization, 0));
    f.number("organization_member", o.pk(Model::OrganizationMember, number));
    f.number("inviter_id", member(o, 0));
    f.number("invite_status", 0);
    f.text("email", &format!("invited.{}@example.com", o.place(Model::OrganizationMember, number)));
    f.text("role", "member");
    f.json("organization_member_team_data", &json!([{"id": o.pk(Model::Team, number), "role": null}]));
    let token = text::hex(&mut f.random, 64);
    f.text("token", &token);
    f.time("token_expires_at");
    for flag in [
        "sso_linked",
        "sso_invalid",
        "member_limit_restricted",
        "idp_provisioned",
        "idp_role_restricted",
        "partnership_restricted",
    ] {
        f.flag(flag, false);
    }
}

fn workflows(f: &mut Fields<'_>, o: &Organization, model: Model, number: u64) {
    // The groups of detectors come before those of workflows.
    let detectors = o.counts.of(Model::Detector);
    let is_new = o.release >= Release::R25_1;
    let owner_team = if o.release >= Release::R25_6 { "owner_team_id" } else { "owner_team" };
    match model {
        Model::DataConditionGroup => {
            f.text("logic_type", if number < detectors { "any" } else { "all" });
            f.number("organization", o.pk(Model::Organization, 0));
        }
        Model::DataCondition => {
            let limit = f.random.below(1_000);
            f.json("comparison", &json!(limit));
            f.json("condition_result", &json!(75));
            if is_new {
                f.text("type", "gt");
            } else {
                f.text("condition", "gt");
                f.text("type", if number < detectors { "DetectorCondition" } else { "WorkflowCondition" });
            }
            f.number("condition_group", o.pk(Model::DataConditionGroup, number));
        }
        Model::DataSource => {
            f.number("organization", o.pk(Model::Organization, 0));
            let source = o.pk(Model::QuerySubscription, number);
            if is_new {
                match o.release {
                    Release::R25_1 => f.number("source_id", source),
                    _ => f.text("source_id", &source.to_string()),
                }
                f.text("type", "snuba_query_subscription");
            } else {
                f.number("query_id", source);
                f.number("type", 1);
            }
        }
        Model::Detector => {
            let name = text::words(&mut f.random, 4);
            f.text("name", &name);
            if number.is_multiple_of(2) {
                f.number("owner_user_id", member(o, number));
                f.null(owner_team);
            } else {
                f.null("owner_user_id");
                f.number(owner_team, o.pk(Model::Team, number));
            }
            f.number("workflow_condition_group", o.pk(Model::DataConditionGroup, number));
            f.text("type", "metric_issue");
            if is_new {
                f.json("config", &json!({"detection_type": "static", "comparison_delta": null}));
                f.number("project", o.pk(Model::Project, number));
                f.flag("enabled", true);
                f.number("status", 0);
                f.null("description");
                f.number("created_by_id", member(o, number));
            }
            if o.release < Release::R25_6 {
                f.number("organization", o.pk(Model::Organization, 0));
            }
        }
        Model::DataSourceDetector => {
            f.number("data_source", o.pk(Model::DataSource, number));
            f.number("detector", o.pk(Model::Detector, number));
        }
        Model::Workflow => {
            let name = text::words(&mut f.random, 4);
            f.text("name", &name);
            f.number("organization", o.pk(Model::Organization, 0));
            f.null("when_condition_group");
            if is_new {
                f.json("config", &json!({"frequency": 30}));
                f.number("owner_user_id", member(o, number));
                f.null(owner_team);
                f.flag("enabled", true);
                f.number("status", 0);
                f.null("environment");
                f.number("created_by_id", member(o, number));
            }
        }
        Model::DetectorWorkflow => {
            f.number("detector", o.pk(Model::Detector, number));
            f.number("workflow", o.pk(Model::Workflow, number));
        }
        _ => {
            f.number(
                "condition_group",
                pk(Model::DataConditionGroup, o.place(Model::DataConditionGroup, detectors + number)),
            );
            f.number("workflow", o.pk(Model::Workflow, number));
        }
    }
}
