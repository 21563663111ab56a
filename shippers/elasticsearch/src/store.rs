//! Batches whose documents wait or are on their way, and the order in which they go.
//!
//! Guarantee: a receipt is confirmed when each document of its batch is stored or declared lost, and not before. What is held
//! here is what the batches' charges say.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use taffrail_record::{Batch, BufferPool, LossReason, Node};

use crate::bulk::{Line, Unfit, prepare, weight};
use crate::{ElasticsearchConfig, IndexTemplate};

/// Names that are kept so that documents share them.
const KEPT_NAMES: usize = 256;

/// A document by where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Doc {
    parcel: u64,
    record: u32,
    pub(crate) index: Arc<str>,
}

#[derive(Debug)]
struct Parcel {
    batch: Batch,
    /// Documents that are neither stored nor lost.
    left: usize,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Store {
    parcels: HashMap<u64, Parcel>,
    next: u64,
    queue: VecDeque<Doc>,
    queue_bytes: u64,
    names: HashMap<String, Arc<str>>,
    template: IndexTemplate,
    gzip: bool,
    pool: Arc<BufferPool>,
    /// Documents here, in the queue or not, and their bytes.
    pub(crate) documents: u64,
    pub(crate) bytes: u64,
}

impl Store {
    pub(crate) fn new(config: &ElasticsearchConfig, pool: Arc<BufferPool>) -> Self {
        Store {
            parcels: HashMap::new(),
            next: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            names: HashMap::new(),
            template: config.index.clone(),
            gzip: config.gzip,
            pool,
            documents: 0,
            bytes: 0,
        }
    }

    /// Queues a batch's documents. Those that no engine could take come back, and whether one is for an index that was
    /// not seen before.
    pub(crate) fn take(&mut self, mut batch: Batch) -> (Vec<(Doc, Unfit)>, bool) {
        let (parcel, left) = (self.next, batch.records.len());
        self.next += 1;
        batch.receipt.resize_charge(self.charge(&batch));
        let (mut unfit, mut is_new) = (Vec::new(), false);
        for (record, number) in batch.records.iter().zip(0..) {
            let id = record.extra.as_ref().and_then(|extra| extra.id.as_deref());
            let name = self.template.render(record.time, cluster(&batch.origin.node, id));
            let (index, new) = self.intern(name);
            is_new |= new;
            let body = record.body.start as usize..record.body.end as usize;
            let document = batch.data.get_mut(body).unwrap_or_default();
            let doc = Doc { parcel, record: number, index };
            self.documents += 1;
            self.bytes += document.len() as u64;
            match prepare(id, document) {
                Ok(()) => {
                    self.queue_bytes += weight(&doc.index, id.unwrap_or_default(), document.len());
                    self.queue.push_back(doc);
                }
                Err(why) => unfit.push((doc, why)),
            }
        }
        self.parcels.insert(parcel, Parcel { batch, left });
        if left == 0 {
            self.finish(parcel);
        }
        (unfit, is_new)
    }

    /// What a batch takes here: its buffer, its records with their ids, and its share of the requests' bodies.
    fn charge(&self, batch: &Batch) -> u64 {
        const EACH: usize = size_of::<taffrail_record::Record>() + size_of::<Doc>() + 256;
        let body = if self.gzip { batch.data.len() / 4 } else { batch.data.len() };
        (batch.data.capacity() + batch.records.len() * EACH + body) as u64
    }

    fn intern(&mut self, name: String) -> (Arc<str>, bool) {
        if let Some(known) = self.names.get(&name) {
            return (Arc::clone(known), false);
        }
        if self.names.len() >= KEPT_NAMES {
            self.names.clear();
        }
        let shared: Arc<str> = name.as_str().into();
        self.names.insert(name, Arc::clone(&shared));
        (shared, true)
    }

    pub(crate) fn queued(&self) -> (usize, u64) {
        (self.queue.len(), self.queue_bytes)
    }

    /// Takes documents out of the queue for one request, at least one, and says what they weigh.
    pub(crate) fn next(&mut self, bytes: u64, documents: usize) -> (Vec<Doc>, u64) {
        let (mut taken, mut weighed) = (Vec::new(), 0);
        while taken.len() < documents {
            let Some(doc) = self.queue.front() else { break };
            let weight = self.weight(doc);
            if !taken.is_empty() && weighed + weight > bytes {
                break;
            }
            weighed += weight;
            taken.extend(self.queue.pop_front());
        }
        self.queue_bytes = self.queue_bytes.saturating_sub(weighed);
        (taken, weighed)
    }

    /// Puts documents back, to go next.
    pub(crate) fn back(&mut self, docs: Vec<Doc>) {
        self.queue_bytes += docs.iter().map(|doc| self.weight(doc)).sum::<u64>();
        for doc in docs.into_iter().rev() {
            self.queue.push_front(doc);
        }
    }

    /// Puts documents behind the others.
    pub(crate) fn behind(&mut self, docs: Vec<Doc>) {
        self.queue_bytes += docs.iter().map(|doc| self.weight(doc)).sum::<u64>();
        self.queue.extend(docs);
    }

    /// A document as it is sent.
    pub(crate) fn line<'a>(&'a self, doc: &'a Doc) -> Line<'a> {
        Line { index: &doc.index, id: self.id(doc), document: self.document(doc) }
    }

    pub(crate) fn id(&self, doc: &Doc) -> &str {
        let record = self.parcels.get(&doc.parcel).and_then(|it| it.batch.records.get(doc.record as usize));
        record.and_then(|record| record.extra.as_ref()?.id.as_deref()).unwrap_or_default()
    }

    pub(crate) fn document(&self, doc: &Doc) -> &[u8] {
        let Some(parcel) = self.parcels.get(&doc.parcel) else { return &[] };
        parcel.batch.records.get(doc.record as usize).map_or(&[], |record| parcel.batch.body(record))
    }

    fn weight(&self, doc: &Doc) -> u64 {
        weight(&doc.index, self.id(doc), self.document(doc).len())
    }

    /// A document is stored. Says how many bytes it has.
    pub(crate) fn stored(&mut self, doc: &Doc) -> u64 {
        let bytes = self.document(doc).len() as u64;
        self.documents -= 1;
        self.bytes -= bytes;
        if let Some(parcel) = self.parcels.get_mut(&doc.parcel) {
            parcel.left -= 1;
            if parcel.left == 0 {
                self.finish(doc.parcel);
            }
        }
        bytes
    }

    /// A document is refused for good, and kept as a dead letter.
    pub(crate) fn lost(&mut self, doc: &Doc, reason: LossReason) {
        if let Some(parcel) = self.parcels.get_mut(&doc.parcel) {
            parcel.batch.lose(doc.record as usize, reason);
        }
        self.stored(doc);
    }

    fn finish(&mut self, parcel: u64) {
        let Some(Parcel { batch, .. }) = self.parcels.remove(&parcel) else { return };
        batch.receipt.confirm();
        self.pool.give(batch.data, batch.records);
    }
}
/// What `{cluster}` stands for: the name that is configured, else the cluster's id, with which every event's begins.
fn cluster<'a>(node: &'a Node, id: Option<&'a str>) -> &'a str {
    match node.cluster.as_str() {
        "" => id.and_then(|id| id.split(':').next()).unwrap_or_default(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_is_called_in_an_index_is_the_same_whoever_writes() {
        let configured = Node { cluster: "prod".to_owned(), ..Node::default() };
        assert_eq!(cluster(&configured, Some("c-1:u-1:7")), "prod");
        assert_eq!(cluster(&Node::default(), Some("c-1:u-1:7")), "c-1");
        assert_eq!(cluster(&Node::default(), None), "");
    }
}
