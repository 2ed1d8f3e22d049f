//! How many records of each model an organization has, and their primary keys.

use super::Release;

/// The models of an export, in their order in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    ControlOption,
    Organization,
    OrganizationOption,
    Team,
    User,
    SavedSearch,
    RecentSearch,
    Project,
    OrgAuthToken,
    OrganizationMember,
    Monitor,
    Environment,
    Email,
    Dashboard,
    UserOption,
    UserEmail,
    SnubaQuery,
    Rule,
    QuerySubscription,
    ProjectTeam,
    ProjectOwnership,
    ProjectOption,
    ProjectKey,
    ProjectBookmark,
    OrganizationMemberTeam,
    EnvironmentProject,
    DashboardWidget,
    AlertRule,
    SnubaQueryEventType,
    DashboardWidgetQuery,
    AlertRuleTrigger,
    AlertRuleProjects,
    AlertRuleTriggerAction,
    GroupSearchView,
    DataConditionGroup,
    DataCondition,
    DataSource,
    Detector,
    DataSourceDetector,
    Workflow,
    DetectorWorkflow,
    WorkflowDataConditionGroup,
    DashboardPermissions,
    GroupSearchViewStarred,
    DashboardFavoriteUser,
    ExploreSavedQuery,
    ExploreSavedQueryProject,
    OrganizationMemberInvite,
    Actor,
    // Only in the newest release, though older ones have some of them: exports of those stay as they are.
    OrganizationAccessRequest,
    Counter,
    ProjectRedirect,
    NotificationAction,
    NotificationActionProject,
    RuleSnooze,
    RuleActivity,
    AlertRuleActivity,
    Incident,
    IncidentActivity,
    DashboardWidgetQueryOnDemand,
    DataSecrecyWaiver,
    AlertRuleDetector,
    AlertRuleWorkflow,
    DataConditionAlertRuleTrigger,
    DashboardPermissionsTeam,
    DashboardFieldLink,
    DashboardRevision,
    GroupSearchViewProject,
    GroupSearchViewLastVisited,
    OrganizationMemberReplayAccess,
    ProjectSdk,
    CustomInboundFilter,
    DataForwarder,
    DataForwarderProject,
    Repository,
    CodeReviewEvent,
    ExploreSavedQueryStarred,
    ExploreSavedQueryLastVisited,
    InsightsStarredSegment,
}

/// How many models there are.
pub(super) const MODELS: usize = Model::ALL.len();

impl Model {
    pub(super) const ALL: [Self; 79] = [
        Self::ControlOption,
        Self::Organization,
        Self::OrganizationOption,
        Self::Team,
        Self::User,
        Self::Actor,
        Self::SavedSearch,
        Self::RecentSearch,
        Self::Project,
        Self::OrgAuthToken,
        Self::OrganizationMember,
        Self::Monitor,
        Self::Environment,
        Self::Email,
        Self::Dashboard,
        Self::UserOption,
        Self::UserEmail,
        Self::SnubaQuery,
        Self::Rule,
        Self::QuerySubscription,
        Self::ProjectTeam,
        Self::ProjectOwnership,
        Self::ProjectOption,
        Self::ProjectKey,
        Self::ProjectBookmark,
        Self::OrganizationMemberTeam,
        Self::EnvironmentProject,
        Self::DashboardWidget,
        Self::AlertRule,
        Self::SnubaQueryEventType,
        Self::DashboardWidgetQuery,
        Self::AlertRuleTrigger,
        Self::AlertRuleProjects,
        Self::AlertRuleTriggerAction,
        Self::GroupSearchView,
        Self::DataConditionGroup,
        Self::DataCondition,
        Self::DataSource,
        Self::Detector,
        Self::DataSourceDetector,
        Self::Workflow,
        Self::DetectorWorkflow,
        Self::WorkflowDataConditionGroup,
        Self::DashboardPermissions,
        Self::GroupSearchViewStarred,
        Self::DashboardFavoriteUser,
        Self::ExploreSavedQuery,
        Self::ExploreSavedQueryProject,
        Self::OrganizationMemberInvite,
        Self::OrganizationAccessRequest,
        Self::Counter,
        Self::ProjectRedirect,
        Self::NotificationAction,
        Self::NotificationActionProject,
        Self::RuleSnooze,
        Self::RuleActivity,
        Self::AlertRuleActivity,
        Self::Incident,
        Self::IncidentActivity,
        Self::DashboardWidgetQueryOnDemand,
        Self::DataSecrecyWaiver,
        Self::AlertRuleDetector,
        Self::AlertRuleWorkflow,
        Self::DataConditionAlertRuleTrigger,
        Self::DashboardPermissionsTeam,
        Self::DashboardFieldLink,
        Self::DashboardRevision,
        Self::GroupSearchViewProject,
        Self::GroupSearchViewLastVisited,
        Self::OrganizationMemberReplayAccess,
        Self::ProjectSdk,
        Self::CustomInboundFilter,
        Self::DataForwarder,
        Self::DataForwarderProject,
        Self::Repository,
        Self::CodeReviewEvent,
        Self::ExploreSavedQueryStarred,
        Self::ExploreSavedQueryLastVisited,
        Self::InsightsStarredSegment,
    ];

    /// The name of the model in a file of 24.8, or of the first release that has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ControlOption => "sentry.controloption",
            Self::Organization => "sentry.organization",
            Self::OrganizationOption => "sentry.organizationoption",
            Self::Team => "sentry.team",
            Self::User => "sentry.user",
            Self::SavedSearch => "sentry.savedsearch",
            Self::RecentSearch => "sentry.recentsearch",
            Self::Project => "sentry.project",
            Self::OrgAuthToken => "sentry.orgauthtoken",
            Self::OrganizationMember => "sentry.organizationmember",
            Self::Monitor => "sentry.monitor",
            Self::Environment => "sentry.environment",
            Self::Email => "sentry.email",
            Self::Dashboard => "sentry.dashboard",
            Self::UserOption => "sentry.useroption",
            Self::UserEmail => "sentry.useremail",
            Self::SnubaQuery => "sentry.snubaquery",
            Self::Rule => "sentry.rule",
            Self::QuerySubscription => "sentry.querysubscription",
            Self::ProjectTeam => "sentry.projectteam",
            Self::ProjectOwnership => "sentry.projectownership",
            Self::ProjectOption => "sentry.projectoption",
            Self::ProjectKey => "sentry.projectkey",
            Self::ProjectBookmark => "sentry.projectbookmark",
            Self::OrganizationMemberTeam => "sentry.organizationmemberteam",
            Self::EnvironmentProject => "sentry.environmentproject",
            Self::DashboardWidget => "sentry.dashboardwidget",
            Self::AlertRule => "sentry.alertrule",
            Self::SnubaQueryEventType => "sentry.snubaqueryeventtype",
            Self::DashboardWidgetQuery => "sentry.dashboardwidgetquery",
            Self::AlertRuleTrigger => "sentry.alertruletrigger",
            Self::AlertRuleProjects => "sentry.alertruleprojects",
            Self::AlertRuleTriggerAction => "sentry.alertruletriggeraction",
            Self::GroupSearchView => "sentry.groupsearchview",
            Self::DataConditionGroup => "workflow_engine.dataconditiongroup",
            Self::DataCondition => "workflow_engine.datacondition",
            Self::DataSource => "workflow_engine.datasource",
            Self::Detector => "workflow_engine.detector",
            Self::DataSourceDetector => "workflow_engine.datasourcedetector",
            Self::Workflow => "workflow_engine.workflow",
            Self::DetectorWorkflow => "workflow_engine.detectorworkflow",
            Self::WorkflowDataConditionGroup => "workflow_engine.workflowdataconditiongroup",
            Self::DashboardPermissions => "sentry.dashboardpermissions",
            Self::GroupSearchViewStarred => "sentry.groupsearchviewstarred",
            Self::DashboardFavoriteUser => "sentry.dashboardfavoriteuser",
            Self::ExploreSavedQuery => "explore.exploresavedquery",
            Self::ExploreSavedQueryProject => "explore.exploresavedqueryproject",
            Self::OrganizationMemberInvite => "sentry.organizationmemberinvite",
            Self::Actor => "sentry.actor",
            Self::OrganizationAccessRequest => "sentry.organizationaccessrequest",
            Self::Counter => "sentry.counter",
            Self::ProjectRedirect => "sentry.projectredirect",
            Self::NotificationAction => "sentry.notificationaction",
            Self::NotificationActionProject => "sentry.notificationactionproject",
            Self::RuleSnooze => "sentry.rulesnooze",
            Self::RuleActivity => "sentry.ruleactivity",
            Self::AlertRuleActivity => "sentry.alertruleactivity",
            Self::Incident => "sentry.incident",
            Self::IncidentActivity => "sentry.incidentactivity",
            Self::DashboardWidgetQueryOnDemand => "sentry.dashboardwidgetqueryondemand",
            Self::DataSecrecyWaiver => "sentry.datasecrecywaiver",
            Self::AlertRuleDetector => "workflow_engine.alertruledetector",
            Self::AlertRuleWorkflow => "workflow_engine.alertruleworkflow",
            Self::DataConditionAlertRuleTrigger => "workflow_engine.dataconditionalertruletrigger",
            Self::DashboardPermissionsTeam => "sentry.dashboardpermissionsteam",
            Self::DashboardFieldLink => "sentry.dashboardfieldlink",
            Self::DashboardRevision => "sentry.dashboardrevision",
            Self::GroupSearchViewProject => "sentry.groupsearchviewproject",
            Self::GroupSearchViewLastVisited => "sentry.groupsearchviewlastvisited",
            Self::OrganizationMemberReplayAccess => "replays.organizationmemberreplayaccess",
            Self::ProjectSdk => "sentry.projectsdk",
            Self::CustomInboundFilter => "sentry.custominboundfilter",
            Self::DataForwarder => "sentry.dataforwarder",
            Self::DataForwarderProject => "sentry.dataforwarderproject",
            Self::Repository => "sentry.repository",
            Self::CodeReviewEvent => "sentry.codereviewevent",
            Self::ExploreSavedQueryStarred => "explore.exploresavedquerystarred",
            Self::ExploreSavedQueryLastVisited => "explore.exploresavedquerylastvisited",
            Self::InsightsStarredSegment => "insights.insightsstarredsegment",
        }
    }
}

/// A number for each model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts([u64; MODELS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; MODELS])
    }
}

impl Counts {
    /// The number of records of each model for the organization at this place.
    ///
    /// Sizes have a long tail: half of the organizations are no larger than twice the smallest, one in a hundred has a
    /// hundred times as many members as that, and one in a thousand a thousand times.
    pub(super) fn new(seed: u64, release: Release, index: u64) -> Self {
        let mut random = Random::new(seed, &[1, index]);
        let size = (1.0 / (1.0 - random.unit())).min(2_000.0);
        let mut about = |mean: f64| (mean * (0.5 + random.unit())).round() as u64;
        let root = size.sqrt();

        let members = 1 + about(3.0 * size);
        let teams = 1 + about(root);
        let projects = 1 + about(1.5 * root);
        let environments = 1 + about(1.5);
        let rules = projects + about(projects as f64);
        let alerts = about(projects as f64 * 0.7);
        let dashboards = about(1.5 * root);
        let widgets = dashboards * 4;

        let mut counts = Self::default();
        for (model, count) in [
            (Model::ControlOption, u64::from(index < 20)),
            (Model::Organization, 1),
            (Model::OrganizationOption, 1 + about(2.5).min(7)),
            (Model::Team, teams),
            // The last members were invited and have no user yet.
            (Model::User, members - members / 12 - shared(members, index)),
            (Model::SavedSearch, about(root).min(members - members / 12)),
            (Model::RecentSearch, about(2.0 * root)),
            (Model::Project, projects),
            (Model::OrgAuthToken, about(0.6 * root)),
            (Model::OrganizationMember, members),
            (Model::Monitor, about(0.8 * root)),
            (Model::Environment, environments),
            (Model::Email, 0),
            (Model::Dashboard, dashboards),
            (Model::UserOption, 0),
            (Model::UserEmail, 0),
            (Model::SnubaQuery, alerts),
            (Model::Rule, rules),
            (Model::QuerySubscription, alerts),
            (Model::ProjectTeam, projects + projects.min(projects * (teams - 1)) / 3),
            (Model::ProjectOwnership, projects / 3),
            (Model::ProjectOption, projects * 5),
            (Model::ProjectKey, projects + projects / 4),
            (Model::ProjectBookmark, projects / 2),
            (Model::OrganizationMemberTeam, members),
            (Model::EnvironmentProject, projects * environments.min(2)),
            (Model::DashboardWidget, widgets),
            (Model::AlertRule, alerts),
            (Model::SnubaQueryEventType, alerts),
            (Model::DashboardWidgetQuery, widgets + widgets / 4),
            (Model::AlertRuleTrigger, alerts + alerts / 2),
            (Model::AlertRuleProjects, alerts),
            (Model::AlertRuleTriggerAction, alerts / 8),
            // Rules and alerts are workflows and detectors as well.
            (Model::DataConditionGroup, alerts + rules),
            (Model::DataCondition, alerts + rules),
            (Model::DataSource, alerts),
            (Model::Detector, alerts),
            (Model::DataSourceDetector, alerts),
            (Model::Workflow, rules),
            (Model::DetectorWorkflow, alerts.min(rules)),
            (Model::WorkflowDataConditionGroup, rules),
            (Model::DashboardPermissions, dashboards / 2),
            (Model::GroupSearchView, members / 3),
            (Model::GroupSearchViewStarred, members / 3),
            (Model::DashboardFavoriteUser, dashboards / 3),
            (Model::ExploreSavedQuery, projects / 2),
            (Model::ExploreSavedQueryProject, projects / 2),
            // As many as members without a user.
            (Model::OrganizationMemberInvite, members / 12),
            (Model::OrganizationAccessRequest, members / 12),
            (Model::Counter, projects),
            (Model::ProjectRedirect, projects / 3),
            (Model::NotificationAction, projects / 2),
            (Model::NotificationActionProject, projects / 2),
            (Model::RuleSnooze, rules / 3),
            (Model::RuleActivity, rules),
            (Model::AlertRuleActivity, alerts),
            (Model::Incident, alerts / 2),
            (Model::IncidentActivity, alerts / 2),
            (Model::DashboardWidgetQueryOnDemand, widgets / 3),
            (Model::DataSecrecyWaiver, u64::from(index.is_multiple_of(4))),
            (Model::AlertRuleDetector, alerts),
            (Model::AlertRuleWorkflow, rules),
            (Model::DataConditionAlertRuleTrigger, alerts),
            (Model::DashboardPermissionsTeam, dashboards / 2),
            (Model::DashboardFieldLink, dashboards / 3),
            (Model::DashboardRevision, dashboards / 2),
            (Model::GroupSearchViewProject, members / 3),
            (Model::GroupSearchViewLastVisited, members / 3),
            (Model::OrganizationMemberReplayAccess, members / 6),
            (Model::ProjectSdk, projects),
            (Model::CustomInboundFilter, projects / 2),
            (Model::DataForwarder, u64::from(index.is_multiple_of(3))),
            (Model::DataForwarderProject, u64::from(index.is_multiple_of(3))),
            (Model::Repository, u64::from(index.is_multiple_of(5))),
            (Model::CodeReviewEvent, u64::from(index.is_multiple_of(5))),
            (Model::ExploreSavedQueryStarred, projects / 2),
            (Model::ExploreSavedQueryLastVisited, projects / 2),
            (Model::InsightsStarredSegment, projects / 2),
        ] {
            counts.0[model as usize] = count;
        }
        let users = counts.of(Model::User);
        counts.0[Model::Email as usize] = users;
        counts.0[Model::UserEmail as usize] = users;
        counts.0[Model::UserOption as usize] = users + users / 3;
        // One for each team, then one for each user.
        counts.0[Model::Actor as usize] = teams + users;
        for model in Model::ALL.into_iter().filter(|model| !release.has(*model)) {
            counts.0[model as usize] = 0;
        }
        counts
    }

    pub(super) fn of(&self, model: Model) -> u64 {
        self.0[model as usize]
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}

/// How many members of an organization are users of the organizations before it.
fn shared(members: u64, index: u64) -> u64 {
    // Every organization has a user, so the organizations before have at least `index` of them.
    (members / 10).min(index)
}

/// An organization, and the place of its records among all records of each model.
#[derive(Debug)]
pub(super) struct Organization {
    pub(super) seed: u64,
    pub(super) release: Release,
    pub(super) index: u64,
    pub(super) counts: Counts,
    first: Counts,
}

impl Organization {
    /// The organization at this place; `first` counts what those before it have.
    pub(super) fn new(seed: u64, release: Release, index: u64, first: Counts) -> Self {
        Self { seed, release, index, counts: Counts::new(seed, release, index), first }
    }

    /// The place of its record `number` among all records of the model.
    pub(super) fn place(&self, model: Model, number: u64) -> u64 {
        self.first.of(model) + number
    }

    /// The primary key of its record `number`. Numbers beyond its records start again at the first.
    pub(super) fn pk(&self, model: Model, number: u64) -> u64 {
        pk(model, self.place(model, number % self.counts.of(model).max(1)))
    }

    /// The place of a member's user among all users; `None` if the member has no user.
    pub(super) fn user_of_member(&self, number: u64) -> Option<u64> {
        let own = self.counts.of(Model::User);
        if number < own {
            return Some(self.place(Model::User, number));
        }
        let (number, shared) = (number - own, shared(self.counts.of(Model::OrganizationMember), self.index));
        let before = self.first.of(Model::User);
        // Neighbouring places, so that no user is a member twice.
        (number < shared).then(|| (mix(self.seed, &[2, self.index]) % before + number) % before)
    }

    /// The actor that an export up to 24.4 names as the owner of a record: every third one is a team, the others are users.
    pub(super) fn owner(&self, number: u64) -> u64 {
        let teams = self.counts.of(Model::Team).max(1);
        let users = self.counts.of(Model::User).max(1);
        let actor = if number.is_multiple_of(3) { number / 3 % teams } else { teams + number % users };
        self.pk(Model::Actor, actor)
    }

    /// Random numbers for one record; the same record gets the same numbers.
    pub(super) fn random(&self, model: Model, number: u64) -> Random {
        random(self.seed, model, self.place(model, number))
    }
}

/// Random numbers for one record; the same record gets the same numbers.
pub(super) fn random(seed: u64, model: Model, place: u64) -> Random {
    Random::new(seed, &[3, model as u64, place])
}

/// The primary key of the record at a place.
///
/// Organizations, teams and projects have the long ids that several regions share among them, with gaps. The keys of
/// others run on, with a gap now and then where a row was deleted.
pub(super) fn pk(model: Model, place: u64) -> u64 {
    match model {
        Model::Organization | Model::Team | Model::Project => {
            4_507_110_000_000_001 + place * 16 + mix(model as u64, &[place]) % 16
        }
        _ => {
            let (run, number) = (place / 40, place % 40);
            1 + run * 43 + mix(model as u64, &[run]) % 4 + number
        }
    }
}

/// A generator of random numbers. The same start gives the same numbers.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64, parts: &[u64]) -> Self {
        Self(mix(seed, parts))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number from 0 to `bound - 1`; 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number from 0 to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.next() as usize % list.len()]
    }
}

fn mix(seed: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(scramble(seed), |hash, part| {
        scramble(hash.rotate_left(23).wrapping_add(part.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    })
}

/// The last step of splitmix64: every bit of the input changes half of the output's.
fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
