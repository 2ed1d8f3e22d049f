//! Releases of the product, as far as their exports differ: in models, their names, and fields.

use clap::ValueEnum;

use super::shape::Model;

/// The release that an export is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Release {
    /// April 2024, when owners of rules were named by actors.
    #[value(name = "24.4")]
    R24_4,
    /// August 2024, the release that is generated if none is named.
    #[default]
    #[value(name = "24.8")]
    R24_8,
    /// September 2024, the first with fields of dynamic alerts and with waivers of data secrecy.
    #[value(name = "24.9")]
    R24_9,
    /// November 2024, the first with workflows, detectors and views.
    #[value(name = "24.11")]
    R24_11,
    /// January 2025, when views had their projects in a list and detectors an organization and a project.
    #[value(name = "25.1")]
    R25_1,
    /// June 2025, the first with saved queries and with invitations as records of their own.
    #[value(name = "25.6")]
    R25_6,
    /// June 2026, the first without records of the model `sentry.email`. It has records of every model.
    #[value(name = "26.6")]
    R26_6,
}

impl Release {
    /// All of them, the oldest first.
    pub const ALL: [Self; 7] =
        [Self::R24_4, Self::R24_8, Self::R24_9, Self::R24_11, Self::R25_1, Self::R25_6, Self::R26_6];

    /// Whether exports of this release have a model.
    pub(super) fn has(self, model: Model) -> bool {
        match model {
            Model::Actor => self < Self::R24_8,
            Model::Email => self < Self::R26_6,
            Model::DataSecrecyWaiver => self >= Self::R24_9,
            Model::GroupSearchView
            | Model::DataConditionGroup
            | Model::DataCondition
            | Model::DataSource
            | Model::Detector
            | Model::DataSourceDetector
            | Model::Workflow
            | Model::DetectorWorkflow
            | Model::WorkflowDataConditionGroup
            | Model::DashboardPermissions => self >= Self::R24_11,
            Model::DashboardFavoriteUser => self >= Self::R25_1,
            Model::GroupSearchViewStarred
            | Model::ExploreSavedQuery
            | Model::ExploreSavedQueryProject
            | Model::OrganizationMemberInvite => self >= Self::R25_6,
            _ if model as usize > Model::Actor as usize => self >= Self::R26_6,
            _ => true,
        }
    }

    /// The name of a model in the file.
    pub(super) fn name(self, model: Model) -> &'static str {
        match model {
            Model::Monitor if self >= Self::R25_6 => "monitors.monitor",
            Model::NotificationAction => "notifications.notificationaction",
            Model::NotificationActionProject => "notifications.notificationactionproject",
            _ => model.name(),
        }
    }
}
