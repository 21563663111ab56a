//! librdkafka's and the brokers' error codes, sorted by what is to be done about them.

use rdkafka::types::RDKafkaRespErr as E;

/// An error code: negative ones are librdkafka's own, positive ones the brokers'.
pub(crate) type Code = i32;

/// No error.
pub(crate) const OK: Code = 0;

/// What kind of trouble an error is; the names are label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// No broker can be reached.
    Connection,
    /// The brokers refuse us, or we them.
    Authentication,
    /// The topic does not exist.
    UnknownTopic,
    /// We may not write to the topic.
    TopicAuthorization,
    /// A record or a request is larger than the topic takes.
    TooLarge,
    /// The producer has given up for good, or was stopped.
    Producer,
    /// This machine's clock is too far from the brokers'.
    Clock,
    /// Anything else.
    Other,
}

impl Kind {
    /// All kinds, in the order of their discriminants.
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Connection,
        Kind::Authentication,
        Kind::UnknownTopic,
        Kind::TopicAuthorization,
        Kind::TooLarge,
        Kind::Producer,
        Kind::Clock,
        Kind::Other,
    ];

    pub(crate) fn of(code: Code) -> Kind {
        match E::try_from(code) {
            Ok(
                E::RD_KAFKA_RESP_ERR__TRANSPORT
                | E::RD_KAFKA_RESP_ERR__RESOLVE
                | E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
                | E::RD_KAFKA_RESP_ERR__TIMED_OUT
                | E::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
            ) => Kind::Connection,
            Ok(
                E::RD_KAFKA_RESP_ERR__AUTHENTICATION
                | E::RD_KAFKA_RESP_ERR__SSL
                | E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
                | E::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
                | E::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            ) => Kind::Authentication,
            Ok(
                E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
                | E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | E::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
                | E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
            ) => Kind::UnknownTopic,
            Ok(E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Kind::TopicAuthorization,
            Ok(
                E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
                | E::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE
                | E::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
            ) => Kind::TooLarge,
            Ok(E::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP) => Kind::Clock,
            Ok(
                E::RD_KAFKA_RESP_ERR__FATAL
                | E::RD_KAFKA_RESP_ERR__PURGE_QUEUE
                | E::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT
                | E::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER
                | E::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID
                | E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            ) => Kind::Producer,
            _ => Kind::Other,
        }
    }

    /// The name, as in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Connection => "connection",
            Kind::Authentication => "authentication",
            Kind::UnknownTopic => "unknown_topic",
            Kind::TopicAuthorization => "topic_authorization",
            Kind::TooLarge => "too_large",
            Kind::Producer => "producer",
            Kind::Clock => "clock",
            Kind::Other => "other",
        }
    }

    /// What a person can do about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Kind::Connection => {
                "check kafka.brokers, name resolution and the network; records wait in their files"
            }
            Kind::Authentication => "check kafka.sasl, kafka.tls and the brokers' certificates",
            Kind::UnknownTopic => "create it or allow the brokers to create topics; its records wait",
            Kind::TopicAuthorization => "grant Write and Describe on it to this user; its records wait",
            Kind::TooLarge => "raise max.message.bytes of the topic or lower kafka.properties batch.size",
            Kind::Producer => "nothing: a new producer sends again what was not confirmed",
            Kind::Clock => {
                "set this machine's clock: it is further from the brokers' than message.timestamp.after.max.ms or before.max.ms allows; its records wait"
            }
            Kind::Other => "see the brokers' logs; its records are retried",
        }
    }
}

/// What an error code means, in words.
pub(crate) fn describe(code: Code) -> String {
    match E::try_from(code) {
        Ok(known) => rdkafka::types::RDKafkaErrorCode::from(known).to_string(),
        Err(_) => format!("error code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_no_binding_knows_are_other_trouble() {
        assert_eq!(Kind::of(31_000), Kind::Other);
        assert_eq!(describe(31_000), "error code 31000");
    }

    #[test]
    fn kinds_are_listed_in_the_order_of_their_discriminants() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn a_topic_s_errors_are_told_apart() {
        assert_eq!(Kind::of(3), Kind::UnknownTopic);
        assert_eq!(Kind::of(10), Kind::TooLarge);
        assert_eq!(Kind::of(29), Kind::TopicAuthorization);
        assert_eq!(Kind::of(-150), Kind::Producer);
    }
}
