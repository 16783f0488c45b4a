//! Rules: what is answered otherwise than an honest server would, when, and how often.

use crate::request::Asked;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A byte of what is stored that is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Which byte; one beyond the end means the last.
    #[serde(default)]
    pub at: u64,
    /// Whether the server goes on to claim the checksum and ETag of what was sent. Otherwise those of what is stored.
    #[serde(default)]
    pub keep_checksum: bool,
}

/// What a rule does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Act {
    /// Only what else the rule says: its delays.
    #[default]
    Nothing,
    /// Does not do it and answers an error. Reads the body first, unless it is to answer early.
    Refuse {
        /// The code in the error document.
        code: String,
        /// The status, if not the usual one of the code.
        #[serde(default)]
        status: Option<u16>,
        /// More headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Whether to answer without reading the body.
        #[serde(default)]
        early: bool,
    },
    /// Does it and answers an error nevertheless.
    DoAndFail {
        /// The code in the error document.
        code: String,
        /// The status, if not the usual one of the code.
        #[serde(default)]
        status: Option<u16>,
    },
    /// Answers as if it had been done.
    Pretend,
    /// Answers 200 with an error document as body, as CompleteMultipartUpload may.
    ErrorIn200 {
        /// The code in the error document.
        code: String,
        /// Whether it is done all the same.
        #[serde(default)]
        done: bool,
    },
    /// Does it, announces the whole answer, sends this many bytes of its body and closes.
    Truncate {
        /// How many bytes of the body are sent.
        #[serde(default)]
        after: u64,
    },
    /// Does it and answers 200 without a body.
    EmptyBody,
    /// Never answers.
    Hang {
        /// Whether to read the body before.
        #[serde(default)]
        read: bool,
    },
    /// Closes the connection without an answer.
    Close {
        /// When.
        #[serde(default)]
        when: Closing,
    },
    /// Does it and tells a wrong checksum.
    WrongChecksum,
    /// Does it and tells a wrong ETag.
    WrongEtag,
    /// Does it and tells no checksums, as a server that knows none.
    DropChecksums,
    /// Stores other bytes than were sent.
    Corrupt(Flip),
    /// Sends another byte at this place of the answer than is stored.
    CorruptAnswer {
        /// Which byte of the body.
        #[serde(default)]
        at: u64,
    },
}

/// When a connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// Before the body is read.
    #[default]
    BeforeReading,
    /// When the body is read, and nothing done.
    AfterReading,
    /// When everything is done: the answer is lost.
    AfterDoing,
}

impl Act {
    /// Does not do it, with this code and its usual status.
    pub fn refuse(code: &str) -> Act {
        Act::Refuse { code: code.into(), status: None, headers: BTreeMap::new(), early: false }
    }

    /// Does not do it, with this status.
    pub fn refuse_as(status: u16, code: &str) -> Act {
        Act::Refuse { code: code.into(), status: Some(status), headers: BTreeMap::new(), early: false }
    }

    /// 301: the bucket is in another region.
    pub fn redirect(region: &str) -> Act {
        let headers = BTreeMap::from([("x-amz-bucket-region".to_owned(), region.to_owned())]);
        Act::Refuse { code: "PermanentRedirect".into(), status: Some(301), headers, early: false }
    }

    /// Does it, and answers this code.
    pub fn do_and_fail(code: &str) -> Act {
        Act::DoAndFail { code: code.into(), status: None }
    }

    /// Whether it ends the search for a rule. One that only delays lets others have their turn.
    fn decides(&self) -> bool {
        *self != Act::Nothing
    }
}

/// When something happens, and what. Of several that match, the first that is due has its way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// What the log calls it.
    pub name: String,
    /// The operation, any if none.
    pub operation: Option<String>,
    /// What must stand in the key.
    pub key: Option<String>,
    /// The number of the part.
    pub part: Option<i32>,
    /// Passes over this many that match.
    pub skip: u64,
    /// Then happens this often; always if none.
    pub times: Option<u64>,
    /// Happens with this probability.
    pub chance: Option<f64>,
    /// The seed of chance.
    pub seed: u64,
    /// Only while this flag is up.
    pub while_flag: Option<String>,
    /// What happens.
    pub act: Act,
    /// Waits before reading the request.
    pub delay_ms: u64,
    /// Waits before answering.
    pub delay_answer_ms: u64,
}

impl Rule {
    /// Always, for every request.
    pub fn new(act: Act) -> Rule {
        Rule { act, ..Rule::default() }
    }

    /// Named for the log.
    pub fn named(self, name: &str) -> Rule {
        Rule { name: name.into(), ..self }
    }

    /// Only for this operation.
    pub fn on(self, operation: &str) -> Rule {
        Rule { operation: Some(operation.into()), ..self }
    }

    /// Only for keys with this in them.
    pub fn key(self, part: &str) -> Rule {
        Rule { key: Some(part.into()), ..self }
    }

    /// Only for this part.
    pub fn part(self, number: i32) -> Rule {
        Rule { part: Some(number), ..self }
    }

    /// Only the N-th that matches, counted from 1.
    pub fn nth(self, n: u64) -> Rule {
        Rule { skip: n.saturating_sub(1), times: Some(1), ..self }
    }

    /// Only so often.
    pub fn times(self, times: u64) -> Rule {
        Rule { times: Some(times), ..self }
    }

    /// Once.
    pub fn once(self) -> Rule {
        self.times(1)
    }

    /// Passes over the first that match.
    pub fn skip(self, skip: u64) -> Rule {
        Rule { skip, ..self }
    }

    /// With this probability; the same seed gives the same sequence.
    pub fn chance(self, probability: f64, seed: u64) -> Rule {
        Rule { chance: Some(probability), seed, ..self }
    }

    /// Only while this flag is up.
    pub fn while_flag(self, flag: &str) -> Rule {
        Rule { while_flag: Some(flag.into()), ..self }
    }

    /// Waits before reading the request.
    pub fn delay(self, by: Duration) -> Rule {
        Rule { delay_ms: by.as_millis() as u64, ..self }
    }

    /// Waits before answering.
    pub fn delay_answer(self, by: Duration) -> Rule {
        Rule { delay_answer_ms: by.as_millis() as u64, ..self }
    }

    fn matches(&self, asked: &Asked, flags: &BTreeSet<String>) -> bool {
        self.operation.as_ref().is_none_or(|operation| *operation == asked.operation)
            && self.key.as_ref().is_none_or(|part| asked.key.as_ref().is_some_and(|key| key.contains(part)))
            && self.part.is_none_or(|part| asked.part == Some(part))
            && self.while_flag.as_ref().is_none_or(|flag| flags.contains(flag))
    }
}

/// What is to happen to one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub act: Act,
    pub delay: Duration,
    pub delay_answer: Duration,
    pub rule: Option<String>,
}

/// The rules of one server.
#[derive(Default)]
pub(crate) struct Script {
    rules: Vec<Standing>,
    flags: BTreeSet<String>,
}

struct Standing {
    rule: Rule,
    seen: u64,
    fired: u64,
    random: Random,
}

impl Script {
    pub fn add(&mut self, rule: Rule) {
        let random = Random::new(rule.seed);
        self.rules.push(Standing { rule, seen: 0, fired: 0, random });
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn set_flag(&mut self, flag: &str, up: bool) {
        if up {
            self.flags.insert(flag.to_owned());
        } else {
            self.flags.remove(flag);
        }
    }

    /// How often the rules of this name had their way.
    pub fn fired(&self, name: &str) -> u64 {
        self.rules.iter().filter(|standing| standing.rule.name == name).map(|standing| standing.fired).sum()
    }

    pub fn plan(&mut self, asked: &Asked) -> Plan {
        let mut plan = Plan::default();
        for standing in &mut self.rules {
            if !standing.rule.matches(asked, &self.flags) || !standing.is_due() {
                continue;
            }
            let rule = &standing.rule;
            plan.delay += Duration::from_millis(rule.delay_ms);
            plan.delay_answer += Duration::from_millis(rule.delay_answer_ms);
            plan.rule = Some(rule.name.clone());
            if rule.act.decides() {
                plan.act = rule.act.clone();
                break;
            }
        }
        plan
    }
}

impl Standing {
    fn is_due(&mut self) -> bool {
        self.seen += 1;
        let due = self.seen > self.rule.skip
            && self.rule.times.is_none_or(|times| self.fired < times)
            && self.rule.chance.is_none_or(|chance| self.random.unit() < chance);
        self.fired += u64::from(due);
        due
    }
}

/// Chance that can be had again with the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0 and less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
