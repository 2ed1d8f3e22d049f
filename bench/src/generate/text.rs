//! Names and sentences, in many scripts.

use super::shape::Random;

const GIVEN: &[&str] = &[
    "Ada",
    "Amélie",
    "Anna",
    "Björn",
    "Chidi",
    "Chloé",
    "Daniel",
    "Đorđe",
    "Elena",
    "Emre",
    "Fatima",
    "François",
    "Grace",
    "Hana",
    "Ingrid",
    "İpek",
    "Jan",
    "João",
    "José",
    "Kateřina",
    "Kwame",
    "Léa",
    "Łukasz",
    "Maria",
    "Mehmet",
    "Nadia",
    "Niño",
    "Olga",
    "Óscar",
    "Priya",
    "Quentin",
    "Rasa",
    "Søren",
    "Tomáš",
    "Uma",
    "Václav",
    "Wei",
    "Ximena",
    "Yuki",
    "Zoë",
    "Ελένη",
    "Иван",
    "Ольга",
    "דוד",
    "سارة",
    "अनिल",
    "陽子",
    "小明",
    "민준",
    "ณัฐ",
];
const FAMILY: &[&str] = &[
    "Andersson",
    "Brown",
    "Çelik",
    "Dubois",
    "Ferreira",
    "García",
    "Hoàng",
    "Ivanov",
    "Jönsson",
    "Kowalski",
    "Lindström",
    "Müller",
    "Novák",
    "O'Neill",
    "Petrović",
    "Quispe",
    "Rossi",
    "Şahin",
    "Tanaka",
    "Uzun",
    "Van Dijk",
    "Weiß",
    "Xu",
    "Yılmaz",
    "Zieliński",
    "Παπαδόπουλος",
    "Смирнова",
    "כהן",
    "حداد",
    "शर्मा",
    "佐藤",
    "王",
    "김",
    "สุข",
];
const FIRST: &[&str] = &[
    "amber", "arctic", "bright", "cedar", "cobalt", "copper", "crimson", "delta", "dusty", "eager", "ember",
    "fern", "frozen", "gentle", "golden", "harbor", "hidden", "indigo", "iron", "jade", "late", "linen",
    "lucky", "marble", "misty", "noble", "north", "ochre", "olive", "patient", "pine", "quiet", "rapid",
    "river", "rustic", "scarlet", "silent", "silver", "solar", "steady", "stone", "swift", "tidal", "upper",
    "velvet", "violet", "western", "winter", "young",
];
const SECOND: &[&str] = &[
    "analytics",
    "api",
    "archive",
    "backend",
    "beacon",
    "billing",
    "bridge",
    "cart",
    "catalog",
    "checkout",
    "compass",
    "dashboard",
    "engine",
    "express",
    "field",
    "foundry",
    "frontend",
    "garden",
    "gateway",
    "harvest",
    "importer",
    "index",
    "labs",
    "ledger",
    "library",
    "mailer",
    "market",
    "mobile",
    "monitor",
    "orchard",
    "payments",
    "pipeline",
    "portal",
    "queue",
    "reader",
    "reports",
    "router",
    "scheduler",
    "search",
    "signal",
    "storage",
    "studio",
    "sync",
    "tower",
    "vault",
    "web",
    "widgets",
    "workshop",
    "worker",
];
const ENDINGS: &[&str] =
    &["GmbH", "Inc.", "Ltd", "AB", "S.A.", "Oü", "株式会社", "& Söhne", "Sp. z o.o.", "Co-op"];
const WORDS: &[&str] = &[
    "a",
    "after",
    "all",
    "and",
    "answer",
    "any",
    "before",
    "by",
    "cache",
    "change",
    "customers",
    "deploy",
    "each",
    "error",
    "every",
    "fails",
    "first",
    "for",
    "from",
    "größer",
    "if",
    "in",
    "is",
    "latency",
    "limit",
    "long",
    "new",
    "no",
    "of",
    "on",
    "order",
    "page",
    "please",
    "rate",
    "release",
    "rises",
    "service",
    "slow",
    "than",
    "the",
    "then",
    "timeout",
    "to",
    "took",
    "über",
    "until",
    "user",
    "was",
    "when",
    "with",
    "“quoted”",
    "\"plain\"",
    "C:\\logs",
    "naïve",
    "→",
    "✅",
    "日本",
    "время",
];

/// A given name and a family name, both drawn from fixed lists.
pub(super) fn person(random: &mut Random) -> String {
    format!("{} {}", random.pick(GIVEN), random.pick(FAMILY))
}

/// The name of something that people work on, in ASCII with a hyphen, such as `amber-api`.
pub(super) fn thing(random: &mut Random) -> String {
    format!("{}-{}", random.pick(FIRST), random.pick(SECOND))
}

/// The name of an organization, of at most 64 characters.
pub(super) fn company(random: &mut Random) -> String {
    if random.one_in(3) {
        format!("{} {}", random.pick(FAMILY), random.pick(ENDINGS))
    } else {
        format!("{} {} {}", capital(random.pick(FIRST)), capital(random.pick(SECOND)), random.pick(ENDINGS))
    }
}

/// `count` random words, separated by spaces.
pub(super) fn words(random: &mut Random, count: u64) -> String {
    let mut text = String::new();
    for _ in 0..count {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(random.pick(WORDS));
    }
    text
}

/// `digits` random hex digits.
pub(super) fn hex(random: &mut Random, digits: usize) -> String {
    let mut text = String::with_capacity(digits + 16);
    while text.len() < digits {
        text.push_str(&format!("{:016x}", random.next()));
    }
    text.truncate(digits);
    text
}

/// A UUID with hyphens.
pub(super) fn uuid(random: &mut Random) -> String {
    let digits = hex(random, 32);
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits[range].to_owned()).join("-")
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
