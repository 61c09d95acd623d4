//! Node selectors: Kubernetes' LabelSelector against this node's labels.

use std::collections::BTreeMap;

use super::Report;
use crate::words::{LabelSelector, SelectorOperator};

/// Whether `selector`, which stands at `path`, selects a node with these labels. Absent and empty select all.
pub(super) fn selects(
    report: &mut Report<'_>,
    path: &str,
    selector: Option<&LabelSelector>,
    labels: &BTreeMap<String, String>,
) -> bool {
    for (index, requirement) in selector.iter().flat_map(|one| &one.match_expressions).enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let wants_values = matches!(requirement.operator, SelectorOperator::In | SelectorOperator::NotIn);
        if wants_values && requirement.values.is_empty() {
            report.refuse::<()>(&path, format!("{:?} needs values; give at least one", requirement.operator));
        }
        if !wants_values && !requirement.values.is_empty() {
            report.refuse::<()>(&path, format!("{:?} takes no values; remove them", requirement.operator));
        }
    }
    matches(selector, labels)
}

/// The same of a selector that was checked before.
pub(super) fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let wanted = selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    wanted
        && selector.match_expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator {
                SelectorOperator::In => listed,
                SelectorOperator::NotIn => !listed,
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
            }
        })
}
