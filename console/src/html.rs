//! The frame of a page, and the pieces that pages are made of. maud escapes every text.

use causeway_proto::place::{CommandTarget, quoted};
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use crate::{context::Context, format};

/// How often the script shows changes, in milliseconds.
const LIVE: u32 = 2_000;

/// A part of the console that has a link at the top of every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Regions,
    Imports,
    Slugs,
    Stuck,
    Differences,
    Audit,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Overview, "/", "Overview"),
        (Self::Regions, "/regions", "Regions"),
        (Self::Imports, "/imports", "Imports"),
        (Self::Slugs, "/slugs", "Slugs"),
        (Self::Stuck, "/stuck", "Stuck"),
        (Self::Differences, "/differences", "Differences"),
        (Self::Audit, "/audit", "Audit"),
    ];
}

/// The main parts of the console, as a list of links.
fn navigation(section: Option<Section>) -> Markup {
    html! {
        nav aria-label="Console" {
            ul {
                @for (one, href, name) in Section::ALL {
                    li {
                        a href=(href) aria-current=[(section == Some(one)).then_some("page")] { (name) }
                    }
                }
            }
        }
    }
}

/// A whole document. With `live`, the script keeps its main part up to date.
pub(crate) fn document(
    title: &str,
    section: Option<Section>,
    who: &str,
    live: Option<u32>,
    main: &Markup,
) -> Markup {
    let bar = html! {
        a.brand href="/" { "Causeway" }
        (navigation(section))
        p.who { @if !who.is_empty() { (who) } }
    };
    frame(title, &bar, live, main)
}

/// A document for somebody who may see nothing else, so it leads nowhere.
pub(crate) fn alone(title: &str, main: &Markup) -> Markup {
    frame(title, &html! { span.brand { "Causeway" } }, None, main)
}

fn frame(title: &str, bar: &Markup, live: Option<u32>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Causeway" }
                link rel="icon" href="/favicon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/console.css";
                @if live.is_some() { script src="/assets/console.js" defer {} }
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    div.bar { (bar) }
                }
                main #main tabindex="-1" data-live=[live] { (main) }
                footer {
                    @if live.is_some() {
                        p #live.live { "As it was when the page was loaded" }
                    }
                    p { "All times are UTC, by the clock of control unless a page says otherwise." }
                }
            }
        }
    }
}

/// A page that shows the present state, or only its main part if the script asks for that.
pub(crate) fn live(context: &Context, title: &str, section: Section, main: Markup) -> Markup {
    if context.main_only { main } else { document(title, Some(section), &context.who, Some(LIVE), &main) }
}

/// A page that does not change while it is open.
pub(crate) fn still(context: &Context, title: &str, section: Section, main: &Markup) -> Markup {
    document(title, Some(section), &context.who, None, main)
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// Whether it has numbers, which are aligned at the right.
    pub(crate) numeric: bool,
}

/// A column of texts.
pub(crate) const fn text(name: &'static str) -> Column {
    Column { name, numeric: false }
}

/// A column of numbers.
pub(crate) const fn numeric(name: &'static str) -> Column {
    Column { name, numeric: true }
}

/// A table. The first cell of each row names it. On a narrow screen each row becomes a card, which is why the roles are
/// written out: a browser takes them from a table that is not laid out as one.
pub(crate) fn table(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll {
            table role="table" {
                caption { (caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for column in columns {
                            th.number[column.numeric] scope="col" role="columnheader" { (column.name) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for row in rows {
                        tr role="row" {
                            @for (index, (cell, column)) in row.iter().zip(columns).enumerate() {
                                @if index == 0 {
                                    th scope="row" role="rowheader" data-label=(column.name) {
                                        span.cell { (cell) }
                                    }
                                } @else {
                                    td.number[column.numeric] role="cell" data-label=(column.name) {
                                        span.cell { (cell) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How serious something is, by colour and by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Busy,
    Warn,
    Bad,
    Plain,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "badge good",
            Self::Busy => "badge busy",
            Self::Warn => "badge warn",
            Self::Bad => "badge bad",
            Self::Plain => "badge",
        }
    }
}

/// A word in a coloured frame.
pub(crate) fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class=(tone.class()) { (word) } }
}

/// A time, and how long ago it was.
pub(crate) fn when(context: &Context, time: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(format::machine_time(time)) title=(format::time(time)) {
            (format::ago(context.now, time))
        }
    }
}

/// A time as it is.
pub(crate) fn at(time: DateTime<Utc>) -> Markup {
    html! { time datetime=(format::machine_time(time)) { (format::time(time)) } }
}

/// A text of a service. What is in backticks is shown as code.
pub(crate) fn prose(text: &str) -> Markup {
    let parts = text.split('`').collect::<Vec<_>>();
    // A backtick without an end is a backtick.
    let quoted = parts.len() - 1 - (parts.len() - 1) % 2;
    html! {
        @for (index, part) in parts.iter().enumerate() {
            @if index % 2 == 1 && index < quoted { code { (part) } }
            @else if index > quoted { "`" (part) }
            @else { (part) }
        }
    }
}

/// Where the commands go that a text names: a region's texts name them without addresses.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    service: CommandTarget,
    control: [String; 1],
}

impl Destination {
    /// That of texts of the region with this URL; `None` if it has never registered one.
    pub(crate) fn of_region(context: &Context, address: Option<&str>) -> Self {
        Self { service: CommandTarget::region(address), control: [context.control_url.clone()] }
    }

    /// That of texts of this control.
    pub(crate) fn of_control(control_url: &str) -> Self {
        let url = control_url.to_owned();
        Self { service: CommandTarget::Control(url.clone()), control: [url] }
    }
}

/// A text whose commands go there, so that they can be pasted.
pub(crate) fn prose_at(to: &Destination, text: &str) -> Markup {
    prose(&to.service.complete(text, &to.control))
}

/// A command to paste.
pub(crate) fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> Markup {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    html! { code.command tabindex="0" { (words.join(" ")) } }
}

/// A name and a value of a list of facts.
pub(crate) fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A link to the next page of a list, and one back to the first.
pub(crate) fn pager(first: &str, is_first: bool, next: Option<&str>) -> Markup {
    html! {
        @if !is_first || next.is_some() {
            nav.pager aria-label="Pages" {
                @if !is_first { a href=(first) { "First page" } }
                @if let Some(next) = next { a href=(next) rel="next" { "Next page" } }
            }
        }
    }
}

/// How much is done, as a bar.
pub(crate) fn progress(done: i64, total: i64, label: &str) -> Markup {
    let percent = if total > 0 {
        (i128::from(done.clamp(0, total)) * 100 / i128::from(total)).to_string()
    } else {
        String::new()
    };
    html! {
        @if total > 0 {
            progress max="100" value=(percent) aria-label=(label) { (percent) "%" }
            " " (percent) "%"
        }
    }
}

/// A value for the query of a link.
pub(crate) fn query(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_shown_as_they_are() {
        let shown = |text| prose(text).into_string();
        assert_eq!(shown("do `causeway x` now"), "do <code>causeway x</code> now");
        assert_eq!(shown("a ` b"), "a ` b");
        assert_eq!(shown("`a` and `b"), "<code>a</code> and `b");
        assert_eq!(shown("<script>`<b>`"), "&lt;script&gt;<code>&lt;b&gt;</code>");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn a_command_in_a_text_goes_where_the_text_comes_from() {
        let context = Context {
            now: DateTime::UNIX_EPOCH,
            who: String::new(),
            main_only: false,
            control_url: "http://c:1".to_owned(),
        };
        let text = "`causeway imports resume 7`; `causeway slugs rename 7 elm`";
        let shown = |address| prose_at(&Destination::of_region(&context, address), text).into_string();
        assert_eq!(
            shown(Some("http://r:1")),
            "<code>causeway imports resume 7 --region http://r:1</code>; \
             <code>causeway slugs rename 7 elm --control http://c:1</code>"
        );
        // Nobody knows its address, so whoever pastes this is asked for it.
        for unknown in [None, Some("")] {
            assert!(shown(unknown).starts_with("<code>causeway imports resume 7 --region URL</code>"));
        }
        let of_control =
            prose_at(&Destination::of_control("http://c:1"), "`causeway regions add us`").into_string();
        assert_eq!(of_control, "<code>causeway regions add us --control http://c:1</code>");
    }

    #[test]
    fn a_command_can_be_pasted() {
        let shown = command(["causeway", "x", "a b", "$(rm)"]).into_string();
        assert!(shown.contains("causeway x 'a b' '$(rm)'"), "{shown}");
    }

    #[test]
    fn a_value_of_a_query_is_one_value() {
        assert_eq!(query("a&b=ä c"), "a%26b%3D%C3%A4%20c");
    }
}
