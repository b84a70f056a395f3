//! A page in Prometheus' text format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The `Content-Type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values.
pub type Labels = Vec<(&'static str, String)>;

/// A page that is put together for one look. Names get `restante_` in front, and their unit behind.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    values: Vec<(Labels, Value)>,
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Histogram),
}

impl Value {
    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }
}

impl Page {
    /// A counter; `_total` is added to its name.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.put(name, help, None, vec![(Vec::new(), Value::Counter(value))]);
    }

    /// Counters that differ in labels.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let values = values.into_iter().map(|(labels, value)| (labels, Value::Counter(value)));
        self.put(name, help, unit, values.collect());
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, unit: Option<Unit>, value: u64) {
        self.put(name, help, unit, vec![(Vec::new(), Value::Gauge(value as f64))]);
    }

    /// Gauges that differ in labels.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let values = values.into_iter().map(|(labels, value)| (labels, Value::Gauge(value as f64)));
        self.put(name, help, unit, values.collect());
    }

    /// A histogram of seconds.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, histogram: &Histogram) {
        let values = vec![(Vec::new(), Value::Histogram(histogram.clone()))];
        self.put(name, help, Some(Unit::Seconds), values);
    }

    fn put(&mut self, name: &'static str, help: &'static str, unit: Option<Unit>, values: Vec<(Labels, Value)>) {
        self.families.push(Family { name, help, unit, values });
    }

    /// The page as text.
    pub fn text(self) -> String {
        let mut registry = Registry::with_prefix("restante");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a text fails only where a value cannot be written in this format, which none of ours is.
        if let Err(fmt::Error) = prometheus_text::encode(&mut text, &registry) {
            tracing::error!("the metrics cannot be written in Prometheus' format");
        }
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for Family { name, help, unit, values } in &self.families {
            let Some((_, first)) = values.first() else { continue };
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), first.kind())?;
            for (labels, value) in values {
                let one = metric.encode_family(labels)?;
                match value {
                    Value::Counter(value) => ConstCounter::new(*value).encode(one)?,
                    Value::Gauge(value) => ConstGauge::new(*value).encode(one)?,
                    Value::Histogram(histogram) => histogram.encode(one)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_names_units_types_and_labels_as_prometheus_wants_them() {
        let mut page = Page::default();
        page.counter("messages_accepted", "Messages.", 7);
        page.gauge("log", "Size.", Some(Unit::Bytes), 1 << 40);
        page.gauges("role", "Role.", None, [(vec![("role", "a\"b".to_owned())], 1)]);
        page.gauges("nothing", "Nothing.", None, []);
        let histogram = Histogram::new([0.5, 1.0]);
        histogram.observe(0.75);
        page.histogram("receipt_latency", "Latency.", &histogram);
        let text = page.text();
        for line in [
            "# HELP restante_messages_accepted_total Messages.",
            "# TYPE restante_messages_accepted_total counter",
            "restante_messages_accepted_total 7",
            "# TYPE restante_log_bytes gauge",
            "restante_log_bytes 1099511627776.0",
            "restante_role{role=\"a\\\"b\"} 1.0",
            "# TYPE restante_receipt_latency_seconds histogram",
            "restante_receipt_latency_seconds_bucket{le=\"1\"} 1",
            "restante_receipt_latency_seconds_bucket{le=\"+Inf\"} 1",
            "restante_receipt_latency_seconds_count 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        assert!(!text.contains("nothing"), "{text}");
    }
}
