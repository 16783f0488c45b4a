//! S3 Batch Operations, "Compute checksum": S3 reads objects of any class where they lie and computes their checksums anew,
//! without thawing any. We write the list of objects that such a job takes, and read the report that it leaves.
//!
//! Both are CSV, one object a line. In the report the messages of failures are quoted wrongly by S3 itself, so a line is
//! always one record, and a quote that ends nothing is a character.

use super::Verdict;
use crate::vault::Crc64;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

/// A line of the list of objects: keys are URL-encoded.
pub fn list_line(bucket: &str, name: &str) -> String {
    format!("{bucket},{}\n", encode(name))
}

fn encode(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(byte.into()),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// What a key in a report may stand for: as it is, and decoded, in both ways that are in use.
fn decoded(key: &str) -> [String; 3] {
    let decode = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, tail @ ..] = rest {
            let code = tail.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
            (bytes, rest) = match code.filter(|_| *first == b'%') {
                Some(byte) => ([bytes, vec![byte]].concat(), &tail[2..]),
                None => ([bytes, vec![*first]].concat(), tail),
            };
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    [key.to_owned(), decode(key), decode(&key.replace('+', " "))]
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub bucket: String,
    /// What its key may stand for.
    pub names: [String; 3],
    status: String,
    message: String,
}

impl Row {
    /// `None`: this is no line of a report.
    pub fn parse(line: &str) -> Option<Row> {
        let mut fields = fields(line);
        if fields.len() < 7 || fields[0].is_empty() || fields[1].is_empty() {
            return None;
        }
        let message = fields.split_off(6).join(",");
        Some(Row {
            bucket: fields[0].clone(),
            names: decoded(&fields[1]),
            status: fields[3].clone(),
            message: format!("{} {} {message}", fields[4], fields[5]).trim().to_owned(),
        })
    }

    /// What S3 has computed.
    pub fn outcome(&self) -> Outcome {
        if !self.status.eq_ignore_ascii_case("succeeded") {
            return match ["404", "NoSuchKey", "not found"].iter().any(|word| self.message.contains(word)) {
                true => Outcome::Missing,
                false => Outcome::Failed(self.message.clone()),
            };
        }
        let json = self.message.find('{').map_or("", |at| &self.message[at..]);
        let Ok(told) = serde_json::from_str::<Told>(json) else {
            return Outcome::Failed(format!("it says nothing of a checksum: {}", self.message));
        };
        if !told.kind.is_none_or(|kind| kind.eq_ignore_ascii_case("FULL_OBJECT")) {
            return Outcome::Other("a checksum of parts".to_owned());
        }
        let of_no_use = || Outcome::Other(format!("{} {:?}", told.algorithm, told.base64));
        match &*told.algorithm.to_ascii_uppercase() {
            "CRC64NVME" => Crc64::from_base64(&told.base64).map_or_else(|_| of_no_use(), Outcome::Crc64),
            "SHA256" => match BASE64.decode(&told.base64) {
                Ok(bytes) if bytes.len() == 32 => {
                    Outcome::Sha256(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
                }
                _ => of_no_use(),
            },
            _ => of_no_use(),
        }
    }
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "checksum_base64")]
    base64: String,
    #[serde(rename = "checksumAlgorithm")]
    algorithm: String,
    #[serde(rename = "checksumType")]
    kind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Crc64(Crc64),
    /// In hexadecimal.
    Sha256(String),
    /// A checksum that nothing here can be compared with.
    Other(String),
    Missing,
    Failed(String),
}

/// What the catalog knows of an object. Of a manifest there is no SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    pub crc64: Option<Crc64>,
    pub sha256: Option<&'a str>,
}

impl Outcome {
    /// Whether it is the object that was delivered; `Err`: what is wrong, or why nobody knows.
    pub fn compare(&self, known: &Known<'_>) -> Result<(), (Verdict, String)> {
        let damaged = || Err((Verdict::Damaged, "S3 computes another checksum than when it was sealed".to_owned()));
        match self {
            Outcome::Crc64(crc64) if Some(*crc64) == known.crc64 => Ok(()),
            Outcome::Crc64(_) if known.crc64.is_none() => {
                Err((Verdict::Unproven, "of this object only SHA256 is known".to_owned()))
            }
            Outcome::Sha256(sha256) if known.sha256.is_some_and(|known| known == sha256) => Ok(()),
            Outcome::Crc64(_) => damaged(),
            Outcome::Sha256(_) if known.sha256.is_some() => damaged(),
            Outcome::Sha256(_) => Err((Verdict::Unproven, "of a manifest only CRC64NVME is known".to_owned())),
            Outcome::Other(what) => {
                Err((Verdict::Unproven, format!("{what} cannot be compared; use CRC64NVME or SHA256, FULL_OBJECT")))
            }
            Outcome::Missing => Err((Verdict::Missing, "S3 finds no such object".to_owned())),
            Outcome::Failed(why) => Err((Verdict::Unproven, format!("S3 could not read it: {why}"))),
        }
    }
}

fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if is_quoted && chars.peek().is_none_or(|next| *next == ',') => is_quoted = false,
            '"' if !is_quoted && field.is_empty() => is_quoted = true,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As S3's guide shows them.
    const CRC32: &str = r#"amzn-s3-demo-bucket1,s3-standard-1mb-test-object,,succeeded,200,,"{""checksum_base64"":""bS9TOQ\u003d\u003d"",""etag"":""3c3c1813042989094598e4b57ecbdc82"",""checksumAlgorithm"":""CRC32"",""checksumType"":""FULL_OBJECT"",""checksum_hex"":""6D2F5339""}""#;
    const FAILED: &str = r#"amzn-s3-demo-bucket1,image_14975,,failed,200,PermanentFailure,"error details: {""failureMessage"":"Task 2845ca0d SSE-C encryption type is not supported for this operation", ""errorCode"": "400"}""#;
    const GONE: &str = r#"amzn-s3-demo-bucket1,image_14975,,failed,200,PermanentFailure,"error details: {""failureMessage"":"Task 2845ca0d Key not found", ""errorCode"": "404"}""#;

    fn outcome(line: &str) -> Outcome {
        Row::parse(line).unwrap().outcome()
    }

    #[test]
    fn reports_are_read_as_s3_writes_them() {
        let row = Row::parse(CRC32).unwrap();
        assert_eq!((&*row.bucket, &*row.names[0]), ("amzn-s3-demo-bucket1", "s3-standard-1mb-test-object"));
        assert_eq!(row.outcome(), Outcome::Other("CRC32 \"bS9TOQ==\"".to_owned()));
        assert!(matches!(outcome(FAILED), Outcome::Failed(why) if why.contains("SSE-C encryption type")));
        assert_eq!(outcome(GONE), Outcome::Missing);
        let of = |base64: &str, algorithm: &str, kind: &str| {
            let line = CRC32.replace(r"bS9TOQ\u003d\u003d", base64);
            outcome(&line.replace("\"CRC32\"", &format!("\"{algorithm}\"")).replace("FULL_OBJECT", kind))
        };
        // The checksum of "123456789", as its specification says it.
        assert_eq!(of("rosUhgp5mIg=", "CRC64NVME", "FULL_OBJECT"), Outcome::Crc64(Crc64(0xae8b_1486_0a79_9888)));
        assert!(matches!(of("rosUhgp5mIg=", "CRC64NVME", "COMPOSITE"), Outcome::Other(_)));
        assert!(matches!(of("rosUhgp5", "CRC64NVME", "FULL_OBJECT"), Outcome::Other(_)));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let sha256 = of(r"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\u003d", "SHA256", "FULL_OBJECT");
        assert_eq!(sha256, Outcome::Sha256(empty.to_owned()));
        for line in ["", "a,b", "bucket,key,,succeeded,200", ",key,,succeeded,200,,x"] {
            assert_eq!(Row::parse(line), None, "{line}");
        }
    }

    #[test]
    fn keys_are_encoded_and_found_again() {
        assert_eq!(list_line("b", "a b/é+%.tar.gpg"), "b,a%20b/%C3%A9%2B%25.tar.gpg\n");
        for key in ["a%20b/%C3%A9%2B%25", "a+b/%c3%a9%2B%25", "a b/é+%"] {
            assert!(decoded(key).contains(&"a b/é+%".to_owned()), "{key}");
        }
        assert_eq!(decoded("100%")[1], "100%");
    }

    #[test]
    fn only_the_same_checksum_is_a_proof() {
        let piece = Known { crc64: Some(Crc64(7)), sha256: Some("aa") };
        let manifest = Known { crc64: Some(Crc64(7)), sha256: None };
        let verdict = |outcome: Outcome, known: &Known<'_>| outcome.compare(known).map_err(|(verdict, _)| verdict);
        let sha256 = |text: &str| Outcome::Sha256(text.to_owned());
        for (outcome, of_piece, of_manifest) in [
            (Outcome::Crc64(Crc64(7)), Ok(()), Ok(())),
            (Outcome::Crc64(Crc64(8)), Err(Verdict::Damaged), Err(Verdict::Damaged)),
            (sha256("aa"), Ok(()), Err(Verdict::Unproven)),
            (sha256("ab"), Err(Verdict::Damaged), Err(Verdict::Unproven)),
            (Outcome::Other("MD5".to_owned()), Err(Verdict::Unproven), Err(Verdict::Unproven)),
            (Outcome::Missing, Err(Verdict::Missing), Err(Verdict::Missing)),
            (Outcome::Failed(String::new()), Err(Verdict::Unproven), Err(Verdict::Unproven)),
        ] {
            assert_eq!(verdict(outcome.clone(), &piece), of_piece, "{outcome:?}");
            assert_eq!(verdict(outcome.clone(), &manifest), of_manifest, "{outcome:?}");
        }
    }
}
