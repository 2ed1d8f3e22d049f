//! Cuts a JSON array into the texts of its elements, by counting brackets outside strings. A JSON parser handles what
//! is inside an element. So nothing is parsed twice, and only the current element is in memory.

use std::io::Read;

use memchr::memchr2;

use super::{ExportError, RawRecord};
use crate::finding::{Finding, FindingKind};

/// Limits on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of a record in bytes. The record may need several times as much memory.
    pub record_bytes: usize,
    /// The maximum nesting of brackets in a record. The brackets of the record itself are the first level.
    pub depth: usize,
}

impl Limits {
    /// The largest limits that work. The JSON parser goes 127 levels deep, and on the way between the silos and into
    /// the databases a value is nested in others. A record is also one value of a database, which has at most 1 GiB.
    pub const LARGEST: Self = Self { record_bytes: 512 * 1024 * 1024, depth: 120 };
}

impl Default for Limits {
    fn default() -> Self {
        Self { record_bytes: 64 * 1024 * 1024, ..Self::LARGEST }
    }
}

/// Which limit a record is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The size of the record in bytes.
    RecordBytes,
    /// The depth to which the record is nested.
    Depth,
}

const BUFFER: usize = 256 * 1024;
/// The first size of the buffer for an extent, in bytes: small, because an extent may be a single record.
const EXTENT_BUFFER: usize = 16 * 1024;

/// Why a record cannot be read.
const OUTSIDE: &str = "a record is outside of the buffer that it was read into";

/// How many bytes are needed to recognize what a file is.
const BEGINNING: usize = 6;

/// What is wrong with a file that begins with these bytes, and what to do, if people often send such files.
fn known_form(beginning: &[u8]) -> Option<&'static str> {
    Some(match beginning {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'[', 0, ..] | [0, b'[', ..] => {
            "the file is UTF-16 text, and an export is UTF-8: iconv -f UTF-16 -t UTF-8 FILE > EXPORT.json"
        }
        [0x1f, 0x8b, ..] => "the file is compressed with gzip; unpack it first: gunzip -c FILE > EXPORT.json",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "the file is compressed with zstd; unpack it first: zstd -dc FILE > EXPORT.json"
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            "the file is compressed with xz; unpack it first: xz -dc FILE > EXPORT.json"
        }
        [b'B', b'Z', b'h', ..] => {
            "the file is compressed with bzip2; unpack it first: bunzip2 -c FILE > EXPORT.json"
        }
        [b'P', b'K', 3, 4, ..] => "the file is a ZIP archive; unpack it first: unzip -p FILE > EXPORT.json",
        _ => return None,
    })
}

/// Where an element begins, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: usize,
}

/// Reads the elements of one array, or of an extent of one.
pub struct Scanner<R> {
    reader: R,
    limits: Limits,
    /// Bytes that have been read but not yet returned; only `start..end` counts.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where `buffer[start]` is in the file.
    offset: u64,
    whole: bool,
    begun: bool,
}

impl<R: Read> Scanner<R> {
    /// The elements of a whole file, which must be one array.
    pub fn new(reader: R, limits: Limits) -> Self {
        Self {
            reader,
            limits,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            whole: true,
            begun: false,
        }
    }

    /// The rest of the elements of a whole file, after one that ends at `offset`.
    pub fn after(reader: R, offset: u64, limits: Limits) -> Self {
        Self { begun: true, offset, ..Self::new(reader, limits) }
    }

    /// The elements of an extent that begins at `offset`, in a file that has been read as a whole before.
    pub fn extent(reader: R, offset: u64, limits: Limits) -> Self {
        let buffer = vec![0; EXTENT_BUFFER];
        Self { reader, limits, buffer, start: 0, end: 0, offset, whole: false, begun: true }
    }

    /// How many bytes of the file have been consumed.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The next element and its text, or `None` after the last one.
    ///
    /// # Errors
    /// If the file is not an array, is cut off, or has something after the array, or if an element is over a limit.
    pub fn next_record(&mut self) -> Result<Option<(Scanned, &[u8])>, ExportError> {
        if !self.begun {
            self.begin()?;
            if self.peek()? == Some(b']') {
                return self.finish();
            }
        } else if self.whole {
            match self.peek()? {
                Some(b',') => self.take(1),
                Some(b']') => return self.finish(),
                Some(_) => return Err(self.error("expected a comma or the end of the array")),
                None => return Err(self.error("the file is cut off: the array does not end")),
            }
        } else {
            while let Some(b',') = self.peek()? {
                self.take(1);
            }
        }
        self.begun = true;
        match self.peek()? {
            None if !self.whole => return Ok(None),
            None => return Err(self.error("the file is cut off: the array does not end")),
            Some(b'{') => {}
            Some(_) => return Err(self.error("expected a record, which is an object")),
        }
        let length = self.element()?;
        let scanned = Scanned { offset: self.offset, length };
        let start = self.start;
        self.take(length);
        let bytes = self.buffer.get(start..start + length);
        Ok(Some((scanned, bytes.ok_or_else(|| ExportError::inconsistent(OUTSIDE))?)))
    }

    fn error(&self, reason: &str) -> ExportError {
        ExportError::form(self.offset, reason)
    }

    /// The error that the record at the next byte is over a limit. It names the record if the part that was read does.
    fn over(&self, limit: Limit) -> ExportError {
        let Limits { record_bytes, depth } = self.limits;
        let reason = match limit {
            Limit::RecordBytes => format!(
                "the record is larger than {record_bytes} bytes, the most that this service takes (its setting \
                 max_record_size)"
            ),
            Limit::Depth => format!(
                "the record is nested deeper than {depth}, the most that this service takes (its setting \
                 max_record_depth)"
            ),
        };
        let mut finding = Finding::new(FindingKind::DeserializationFailed, reason).at(self.offset);
        match self.bytes() {
            Ok(bytes) => (finding.model, finding.source_pk) = RawRecord::identify_incomplete(bytes),
            Err(error) => return error,
        }
        ExportError::OverLimit { limit, finding: Box::new(finding) }
    }

    fn begin(&mut self) -> Result<(), ExportError> {
        while self.end - self.start < BEGINNING && self.fill()? {}
        if let Some(reason) = known_form(self.bytes()?) {
            return Err(self.error(reason));
        }
        if self.bytes()?.starts_with(b"\xef\xbb\xbf") {
            self.take(3);
        }
        match self.peek()? {
            Some(b'[') => self.take(1),
            Some(b'{') => {
                return Err(self.error(
                    "the file is not a JSON array of records: it begins with an object. If it has one record a line \
                     (NDJSON), make an array of them: jq -s . FILE > EXPORT.json",
                ));
            }
            Some(_) => return Err(self.error("the file is not a JSON array of records")),
            None => return Err(self.error("the file is empty")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<(Scanned, &[u8])>, ExportError> {
        self.take(1);
        match self.peek()? {
            None => {
                // Further calls return the same.
                self.whole = false;
                self.begun = true;
                Ok(None)
            }
            Some(_) => Err(self.error("there is something after the end of the array")),
        }
    }

    /// What was read and has not been taken.
    fn bytes(&self) -> Result<&[u8], ExportError> {
        self.buffer.get(self.start..self.end).ok_or_else(|| ExportError::inconsistent(OUTSIDE))
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<Option<u8>, ExportError> {
        loop {
            match self.bytes()?.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
                Some(blank) => {
                    self.take(blank);
                    return Ok(self.bytes()?.first().copied());
                }
                None => {
                    self.take(self.end - self.start);
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads more bytes after those in the buffer. Returns `false` at the end of the file.
    fn fill(&mut self) -> Result<bool, ExportError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let larger = (self.buffer.len() * 2).min(self.limits.record_bytes.saturating_add(BUFFER));
            if larger == self.buffer.len() {
                return Err(self.over(Limit::RecordBytes));
            }
            self.buffer.resize(larger, 0);
        }
        loop {
            let room = self.buffer.get_mut(self.end..).ok_or_else(|| ExportError::inconsistent(OUTSIDE))?;
            match self.reader.read(room) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The length of the element that begins at the next byte.
    fn element(&mut self) -> Result<usize, ExportError> {
        let mut scanned = 0;
        let mut depth = 0_usize;
        let mut in_string = false;
        loop {
            let bytes = self.bytes()?;
            while let Some(rest) = bytes.get(scanned..).filter(|rest| !rest.is_empty()) {
                if in_string {
                    // Most of a file is text in strings, so search for the end of a string, or a backslash, word by
                    // word.
                    let Some(index) = memchr2(b'"', b'\\', rest) else {
                        scanned = bytes.len();
                        break;
                    };
                    if rest.get(index) == Some(&b'"') {
                        in_string = false;
                        scanned += index + 1;
                    } else if index + 1 < rest.len() {
                        // Including the escaped character.
                        scanned += index + 2;
                    } else {
                        // The escaped character has not been read yet.
                        scanned += index;
                        break;
                    }
                    continue;
                }
                let Some(index) =
                    rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))
                else {
                    scanned = bytes.len();
                    break;
                };
                scanned += index + 1;
                match rest.get(index) {
                    Some(b'"') => in_string = true,
                    Some(b'{' | b'[') => {
                        depth += 1;
                        if depth > self.limits.depth {
                            return Err(self.over(Limit::Depth));
                        }
                    }
                    _ => {
                        depth -= 1;
                        if depth == 0 {
                            if scanned > self.limits.record_bytes {
                                return Err(self.over(Limit::RecordBytes));
                            }
                            return Ok(scanned);
                        }
                    }
                }
            }
            if !self.fill()? {
                return Err(self.error("the file is cut off in the middle of this record"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let mut scanner = Scanner::new(text, Limits { record_bytes: 1 << 20, depth: 10 });
        let mut found = Vec::new();
        while let Some((scanned, bytes)) = scanner.next_record().map_err(|error| error.to_string())? {
            found.push((scanned.offset, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        assert!(scanner.next_record().unwrap().is_none());
        Ok(found)
    }

    #[test]
    fn elements_are_cut_where_they_begin_and_end() {
        assert_eq!(all(b"[]").unwrap(), []);
        assert_eq!(all(b"\xef\xbb\xbf [ ] \n").unwrap(), []);
        assert_eq!(
            all(br#" [ {"a": "}\"]"} , {"b":[{}]}]"#).unwrap(),
            [(3, r#"{"a": "}\"]"}"#.to_owned()), (19, r#"{"b":[{}]}"#.to_owned())]
        );
    }

    /// A file that returns one byte per read.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn what_has_been_read_may_end_anywhere_in_a_record() {
        let text = br#"[{"a": "\\", "\"}": ["]", "\\\"", "\u005c"]}, {"b": "\\"}]"#;
        let mut scanner = Scanner::new(Drops(text), Limits { record_bytes: 1 << 20, depth: 10 });
        let mut found = Vec::new();
        while let Some((scanned, bytes)) = scanner.next_record().unwrap() {
            found.push((scanned.offset, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        assert_eq!(found, all(text).unwrap());
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [r#"{"a": "\\", "\"}": ["]", "\\\"", "\u005c"]}"#, r#"{"b": "\\"}"#]);
    }

    #[test]
    fn what_is_no_array_of_records_is_refused_with_its_place() {
        for (text, problem) in [
            (&b""[..], "byte 0: the file is empty"),
            (b" {}", "byte 1: the file is not a JSON array"),
            (b"{}\n{}\n", "byte 0: the file is not a JSON array of records: it begins with an object"),
            (b"\xff\xfe[\0]\0", "byte 0: the file is UTF-16 text"),
            (b"\xfe\xff\0[\0]", "byte 0: the file is UTF-16 text"),
            (b"[\0]\0", "byte 0: the file is UTF-16 text"),
            (b"\x1f\x8b\x08\0\0\0\0", "byte 0: the file is compressed with gzip"),
            (b"PK\x03\x04\x14", "byte 0: the file is a ZIP archive"),
            (b"[{}", "byte 3: the file is cut off"),
            (b"[{\"a\": 1", "byte 1: the file is cut off in the middle"),
            (b"[{} {}]", "byte 4: expected a comma"),
            (b"[{}] x", "byte 5: there is something after"),
            (b"[{},]", "byte 4: expected a record"),
            (b"[1]", "byte 1: expected a record"),
            (b"[{\"a\":[[[[[[[[[[1]]]]]]]]]]}]", "byte 1: the record is nested deeper than 10"),
        ] {
            let error = all(text).unwrap_err();
            assert!(error.starts_with(problem), "{error} should be {problem}");
        }
    }

    #[test]
    fn a_record_larger_than_the_buffer_is_read_and_one_over_the_limit_is_not() {
        let record = |length: usize| format!(r#"[{{"a":"{}"}}, {{}}]"#, "x".repeat(length));
        assert_eq!(all(record(600_000).as_bytes()).unwrap().len(), 2);
        assert!(all(record(2 << 20).as_bytes()).unwrap_err().contains("larger than 1048576 bytes"));
    }

    /// The first record over a limit: which limit it is, and the finding.
    fn over(text: &str, limits: Limits) -> Option<(Limit, Finding)> {
        let mut scanner = Scanner::new(text.as_bytes(), limits);
        loop {
            match scanner.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(ExportError::OverLimit { limit, finding }) => return Some((limit, *finding)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_record_at_a_limit_passes_and_one_over_it_is_named() {
        let record = r#"{"model": "Sentry.Rule", "pk": 7, "fields": {"data": [[1]]}}"#;
        let file = format!("[{{}}, {record}]");
        let at = Limits { record_bytes: record.len(), depth: 4 };
        assert_eq!(over(&file, at), None);
        for (limits, limit) in [
            (Limits { record_bytes: record.len() - 1, ..at }, Limit::RecordBytes),
            (Limits { depth: 3, ..at }, Limit::Depth),
        ] {
            let (which, finding) = over(&file, limits).expect("it is over the limit");
            assert_eq!(which, limit);
            assert_eq!(finding.model.as_deref(), Some("sentry.rule"));
            assert_eq!((finding.source_pk, finding.byte_offset), (Some(7), Some(5)));
        }
    }

    #[test]
    fn a_record_is_named_by_what_stands_before_its_end() {
        let long = "x".repeat(4 * BUFFER);
        for (record, model, pk) in [
            (r#"{"fields": {"x": "LONG"}, "model": "a.b", "pk": 1}"#, None, None),
            (r#"{"model": "a.b", "fields": {"x": "LONG"}, "pk": 1}"#, Some("a.b"), None),
            (r#"{"model": "a.b", "pk": "seven", "fields": {"x": "LONG"}}"#, Some("a.b"), None),
            (r#"{"model": 1, "pk": 7, "fields": {"x": "LONG"}}"#, None, Some(7)),
        ] {
            let file = format!("[{}]", record.replace("LONG", &long));
            let (limit, finding) =
                over(&file, Limits { record_bytes: 100, depth: 10 }).expect("it is over the limit");
            assert_eq!(limit, Limit::RecordBytes);
            assert_eq!((finding.model.as_deref(), finding.source_pk), (model, pk), "{record}");
            assert_eq!(finding.byte_offset, Some(1));
        }
    }

    #[test]
    fn an_extent_gives_the_same_elements() {
        let text = br#"[{"a":1}, {"b":2},{"c":3}]"#;
        let mut scanner = Scanner::extent(&text[8..17], 8, Limits::default());
        let mut offsets = Vec::new();
        while let Some((scanned, _)) = scanner.next_record().unwrap() {
            offsets.push(scanned.offset);
        }
        assert_eq!(offsets, [10]);
    }
}
