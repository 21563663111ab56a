//! Counters of a `prometheus::Registry` among the asked collectors.
//!
//! For the few slow counters with labels that come and go, where hand-written samples are not worth it.

use std::collections::BTreeMap;

use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily, MetricType};
use taffrail_record::{Ask, AskError, Family, Samples};

/// Answers with what a registry holds.
pub struct Bridge {
    name: &'static str,
    families: &'static [Family],
    registry: Registry,
}

impl Bridge {
    /// Answers under `name` with the metrics of `registry` that `families` declare. Only counters and gauges can
    /// be declared.
    #[must_use]
    pub fn new(name: &'static str, families: &'static [Family], registry: Registry) -> Self {
        Bridge { name, families, registry }
    }
}

impl Ask for Bridge {
    fn name(&self) -> &'static str {
        self.name
    }

    fn families(&self) -> &'static [Family] {
        self.families
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut undeclared = Vec::new();
        for gathered in self.registry.gather() {
            match self.families.iter().find(|family| family.name == gathered.name()) {
                Some(family) => write(samples, family, &gathered),
                None => undeclared.push(gathered.name().to_owned()),
            }
        }
        if undeclared.is_empty() {
            return Ok(());
        }
        Err(AskError::Failed { what: undeclared.join(", "), cause: "registered and not declared".into() })
    }
}

fn write(samples: &mut dyn Samples, family: &'static Family, gathered: &MetricFamily) {
    samples.family(family);
    for metric in gathered.get_metric() {
        let labels: BTreeMap<&str, &str> =
            metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        let values: Vec<&str> =
            family.labels.iter().map(|label| labels.get(label).copied().unwrap_or_default()).collect();
        if let Some(value) = value(gathered.get_field_type(), metric) {
            samples.sample(&values, value);
        }
    }
}

fn value(kind: MetricType, metric: &Metric) -> Option<f64> {
    match kind {
        MetricType::COUNTER => Some(metric.get_counter().get_value()),
        MetricType::GAUGE => Some(metric.get_gauge().get_value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, IntGauge, Opts};
    use taffrail_record::Kind;

    use super::*;
    use crate::{Exposition, Format};

    static FAMILIES: &[Family] = &[Family {
        name: "x_requests_total",
        kind: Kind::Counter,
        help: "Requests.",
        labels: &["path", "code"],
    }];

    #[test]
    fn declared_metrics_are_written_and_others_reported() {
        let registry = Registry::new();
        let counter =
            IntCounterVec::new(Opts::new("x_requests_total", "."), &["path", "code"]).expect("valid");
        counter.with_label_values(&["/metrics", "200"]).inc_by(3);
        registry.register(Box::new(counter)).expect("registered");
        let bridge = Bridge::new("x", FAMILIES, registry.clone());
        let mut exposition = Exposition::new();
        bridge.ask(&mut exposition).expect("all declared");
        assert!(
            exposition
                .render(Format::Text)
                .ends_with("counter\nx_requests_total{path=\"/metrics\",code=\"200\"} 3\n")
        );
        registry.register(Box::new(IntGauge::new("x_other", ".").expect("valid"))).expect("registered");
        let error = bridge.ask(&mut Exposition::new()).expect_err("undeclared");
        assert_eq!(error.to_string(), "x_other: registered and not declared");
    }
}
