//! What the rules of a bucket do to a vault in it. Pure.

use crate::finding::State;
use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, ExpirationStatus, LifecycleRule};

/// A rule of a bucket, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    id: String,
    is_enabled: bool,
    /// Beginning of the names that it is for.
    prefix: String,
    /// Only for objects with tags, which ours have not.
    has_tags: bool,
    /// Only for objects of some sizes.
    has_sizes: bool,
    abort_days: Option<u32>,
    expires: bool,
    /// The class that objects are taken to.
    moves_to: Option<String>,
}

impl Rule {
    pub(super) fn of(rule: &LifecycleRule) -> Rule {
        let filter = rule.filter();
        let all = filter.and_then(|filter| filter.and());
        #[allow(deprecated, reason = "old rules are still in force")]
        let prefix = filter.and_then(|filter| filter.prefix()).or(all.and_then(|all| all.prefix())).or(rule.prefix());
        let is_sized = |bounds: [Option<i64>; 2]| bounds.iter().any(Option::is_some);
        let abort =
            rule.abort_incomplete_multipart_upload().and_then(AbortIncompleteMultipartUpload::days_after_initiation);
        Rule {
            id: rule.id().unwrap_or_default().to_owned(),
            is_enabled: *rule.status() == ExpirationStatus::Enabled,
            prefix: prefix.unwrap_or_default().to_owned(),
            has_tags: filter.is_some_and(|filter| filter.tag().is_some())
                || all.is_some_and(|all| !all.tags().is_empty()),
            has_sizes: filter
                .is_some_and(|one| is_sized([one.object_size_greater_than(), one.object_size_less_than()]))
                || all.is_some_and(|all| is_sized([all.object_size_greater_than(), all.object_size_less_than()])),
            abort_days: abort.and_then(|days| u32::try_from(days).ok()),
            expires: rule.expiration().is_some_and(|after| after.days().is_some() || after.date().is_some()),
            moves_to: rule.transitions().first().map(|to| match to.storage_class() {
                Some(class) => class.as_str().to_owned(),
                None => "another class".to_owned(),
            }),
        }
    }

    /// For some names below `prefix`, which is empty or ends in `/`.
    fn touches(&self, prefix: &str) -> bool {
        let overlaps = self.prefix.starts_with(prefix) || prefix.starts_with(&self.prefix);
        self.is_enabled && !self.has_tags && overlaps
    }

    /// For all of them.
    fn covers(&self, prefix: &str) -> bool {
        self.touches(prefix) && prefix.starts_with(&self.prefix) && !self.has_sizes
    }
}

/// For how long an upload must be left alone, and better is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Days {
    pub least: u32,
    pub better: u32,
}

#[derive(Debug)]
pub(super) struct Verdict {
    pub state: State,
    pub what: String,
    pub hint: String,
}

pub(super) fn judge(rules: &[Rule], prefix: &str, days: Days) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for rule in rules.iter().filter(|rule| rule.touches(prefix)) {
        let harm = match (&rule.expires, &rule.moves_to) {
            (true, _) => "deletes objects of the vault".to_owned(),
            (false, Some(class)) => format!("takes objects of the vault to {class}"),
            (false, None) => continue,
        };
        verdicts.push(Verdict {
            state: State::Problem,
            what: format!("the rule {:?} {harm}", rule.id),
            hint: "Restrict the rule to names outside of the vault, or remove it: pieces are kept where they are, and \
                   manifests must be readable without a thaw"
                .to_owned(),
        });
    }
    verdicts.push(abandoned(rules, prefix, days));
    verdicts
}

fn abandoned(rules: &[Rule], prefix: &str, days: Days) -> Verdict {
    let hint = format!("`archiver aws-policy lifecycle` prints a rule of {} days, and how to set it", days.better);
    // The first rule that is due wins.
    let touching = rules.iter().filter(|rule| rule.touches(prefix));
    let shortest = touching.filter_map(|rule| rule.abort_days.map(|days| (days, rule.id.as_str()))).min();
    let is_covered = rules.iter().any(|rule| rule.covers(prefix) && rule.abort_days.is_some());
    match shortest {
        Some((abort, id)) if abort < days.least => Verdict {
            state: State::Problem,
            what: format!(
                "the rule {id:?} aborts uploads {abort} days after they began, and one may take {} here: a slow or \
                 interrupted piece would begin again and again",
                days.least
            ),
            hint,
        },
        Some((abort, _)) if is_covered => Verdict {
            state: State::Ok,
            what: format!(
                "uploads that nobody goes on with are aborted after {abort} days, and nothing else is touched"
            ),
            hint: String::new(),
        },
        _ => Verdict {
            state: State::Warning,
            what:
                "no rule aborts uploads that nobody goes on with: their parts are billed for ever, and no listing of \
                   objects shows them"
                    .to_owned(),
            hint,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Ok, Problem, Warning};

    fn rule(prefix: &str) -> Rule {
        Rule { id: "r".into(), is_enabled: true, prefix: prefix.into(), ..Rule::default() }
    }

    fn check(rules: &[Rule], expected: &[State]) {
        let states: Vec<State> =
            judge(rules, "vault/", Days { least: 9, better: 30 }).iter().map(|verdict| verdict.state).collect();
        assert_eq!(states, expected, "{rules:?}");
    }

    #[test]
    fn rules_are_judged_by_what_they_do_to_the_vault() {
        let abort = |prefix: &str, days: u32| Rule { abort_days: Some(days), ..rule(prefix) };
        let expire = |prefix: &str| Rule { expires: true, ..rule(prefix) };
        let moved = |prefix: &str| Rule { moves_to: Some("GLACIER".into()), ..rule(prefix) };
        check(&[], &[Warning]);
        check(&[rule("")], &[Warning]);
        for prefix in ["", "v", "vault/"] {
            check(&[abort(prefix, 9)], &[Ok]);
            check(&[abort(prefix, 8)], &[Problem]);
            check(&[abort(prefix, 30), expire(prefix)], &[Problem, Ok]);
            check(&[abort(prefix, 30), moved(prefix)], &[Problem, Ok]);
        }
        // For a part of the vault: it harms that part, and is no rule for the whole.
        check(&[abort("vault/nas1/", 30)], &[Warning]);
        check(&[abort("vault/nas1/", 8)], &[Problem]);
        check(&[expire("vault/nas1/")], &[Problem, Warning]);
        for prefix in ["vault2/", "vault-old", "other/", "vaults/"] {
            check(&[abort("", 30), abort(prefix, 1), expire(prefix), moved(prefix)], &[Ok]);
        }
        check(&[abort("", 30), abort("vault/", 8)], &[Problem]);
        let off = |rule: Rule| Rule { is_enabled: false, ..rule };
        check(&[off(abort("", 30)), off(expire("")), off(moved(""))], &[Warning]);
        check(&[abort("", 30), Rule { has_tags: true, ..expire("") }], &[Ok]);
        check(&[abort("", 30), Rule { has_sizes: true, ..expire("") }], &[Problem, Ok]);
    }

    #[test]
    fn every_form_of_a_filter_is_read() {
        use aws_sdk_s3::types::{LifecycleRuleAndOperator, LifecycleRuleFilter, Tag};
        let tag = || Tag::builder().key("a").value("b").build().ok();
        let build = |filter: Option<LifecycleRuleFilter>| {
            let rule = LifecycleRule::builder().status(ExpirationStatus::Enabled).set_filter(filter).build();
            Rule::of(&rule.unwrap())
        };
        let filter = LifecycleRuleFilter::builder;
        let all = LifecycleRuleAndOperator::builder().prefix("p").set_tags(tag().map(|tag| vec![tag]));
        let facts = |rule: Rule| (rule.prefix, rule.has_tags, rule.has_sizes);
        assert_eq!(facts(build(None)), (String::new(), false, false));
        assert_eq!(facts(build(Some(filter().prefix("p").build()))), ("p".into(), false, false));
        assert_eq!(facts(build(Some(filter().set_tag(tag()).build()))), (String::new(), true, false));
        assert_eq!(facts(build(Some(filter().object_size_less_than(1).build()))), (String::new(), false, true));
        assert_eq!(facts(build(Some(filter().and(all.build()).build()))), ("p".into(), true, false));
        #[allow(deprecated, reason = "old rules are still in force")]
        let old = LifecycleRule::builder().status(ExpirationStatus::Disabled).prefix("old").build();
        let old = Rule::of(&old.unwrap());
        assert_eq!((old.prefix.as_str(), old.is_enabled), ("old", false));
    }
}
