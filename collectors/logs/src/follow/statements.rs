//! Making ledger statements.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use taffrail_record::{
    Account, Batch, FileId, Flags, Hold, Origin, Payload, Receipt, Record, Source, Span, Statement, Stream,
};

/// A batch with one statement, beside what the origin's records carry. `holds` keep the file's position until the
/// statement is confirmed.
pub(crate) fn batch(
    statement: &Statement,
    origin: &Arc<Origin>,
    source: &Arc<Source>,
    account: &Arc<Account>,
    holds: Vec<(FileId, Hold)>,
    now: i64,
) -> Batch {
    let data = document(statement, origin, now).to_string().into_bytes();
    let record = Record {
        body: 0..u32::try_from(data.len()).unwrap_or(u32::MAX),
        span: Span::at(0, 0),
        time: now,
        stream: Stream::None,
        flags: Flags::NONE,
        extra: None,
    };
    Batch {
        payload: Payload::Statement,
        origin: Arc::clone(origin),
        source: Arc::clone(source),
        data,
        records: vec![record],
        receipt: Receipt::for_statements(holds, Arc::clone(account)),
    }
}

fn document(statement: &Statement, origin: &Origin, now: i64) -> Value {
    let mut object = Map::new();
    let time = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap_or_default();
    object.insert("@timestamp".to_owned(), json!(format!("{time:.9}")));
    object.insert("ledger".to_owned(), json!(statement));
    object.insert("host".to_owned(), json!({ "name": origin.node.name }));
    if !origin.node.cluster.is_empty() {
        object.insert("orchestrator".to_owned(), json!({ "cluster": { "name": origin.node.cluster } }));
    }
    let container = origin.container.as_ref();
    if let Some(pod) = &origin.pod {
        let kubernetes = json!({
            "namespace": pod.namespace,
            "pod": { "name": pod.name, "uid": pod.uid },
            "container": { "name": container.map_or("", |c| c.name.as_str()) },
        });
        object.insert("kubernetes".to_owned(), kubernetes);
    }
    if let Some(container) = container.filter(|c| !c.id.is_empty()) {
        object.insert("container".to_owned(), json!({ "id": container.id, "name": container.name }));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use taffrail_record::{DeclaredLoss, Ledger, StatementKind};

    use super::*;

    #[test]
    fn a_statement_reads_back_from_its_document() {
        let statement = Statement {
            kind: StatementKind::Damaged,
            fingerprint: FileId(7).to_string(),
            path: "/var/log/x".to_owned(),
            from: 0,
            size: 10,
            confirmed: 4,
            lost: vec![DeclaredLoss { reason: "quota".to_owned(), offset: 4, length: 2 }],
        };
        let source = Arc::new(Source { id: FileId(7), path: "/var/log/x".into(), device: 1, inode: 2 });
        let account = Ledger::new().account(["", "", "x"]);
        let batch =
            batch(&statement, &Arc::default(), &source, &account, Vec::new(), 1_767_225_600_000_000_001);
        let document: Value = serde_json::from_slice(batch.body(&batch.records[0])).expect("JSON");
        assert_eq!(document["@timestamp"], "2026-01-01T00:00:00.000000001Z");
        let read: Statement = serde_json::from_value(document["ledger"].clone()).expect("a statement");
        assert_eq!(read, statement);
        batch.receipt.confirm();
    }
}
