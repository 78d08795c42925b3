//! The messages of the older stream.
//!
//! Invariant: field numbers are never changed; tests/proto/atf4.proto is the same for protoc.

use std::collections::BTreeMap;

/// A step.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    /// 1, 2, 3 … in time order.
    #[prost(uint64, tag = "1")]
    pub(super) event_id: u64,
    #[prost(int32, tag = "2")]
    pub(super) thread_id: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) timestamp: Option<Timestamp>,
    #[prost(oneof = "Payload", tags = "10, 11, 12, 13, 14")]
    pub(super) payload: Option<Payload>,
}

/// Since 1970.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// What happened.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Payload {
    #[prost(message, tag = "10")]
    TraceStart(TraceStart),
    #[prost(message, tag = "11")]
    TraceEnd(TraceEnd),
    #[prost(message, tag = "12")]
    FunctionCall(FunctionCall),
    #[prost(message, tag = "13")]
    FunctionReturn(FunctionReturn),
    #[prost(message, tag = "14")]
    SignalDelivery(SignalDelivery),
}

/// The first event.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct TraceStart {
    #[prost(string, tag = "1")]
    pub(super) executable_path: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) args: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) operating_system: String,
    #[prost(string, tag = "4")]
    pub(super) cpu_architecture: String,
}

/// The last event.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct TraceEnd {
    #[prost(int32, tag = "1")]
    pub(super) exit_code: i32,
}

/// A call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FunctionCall {
    #[prost(string, tag = "1")]
    pub(super) symbol: String,
    #[prost(uint64, tag = "2")]
    pub(super) address: u64,
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(super) argument_registers: BTreeMap<String, u64>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) stack_shallow_copy: Vec<u8>,
}

/// A return.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FunctionReturn {
    #[prost(string, tag = "1")]
    pub(super) symbol: String,
    #[prost(uint64, tag = "2")]
    pub(super) address: u64,
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(super) return_registers: BTreeMap<String, u64>,
}

/// A signal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SignalDelivery {
    #[prost(int32, tag = "1")]
    pub(super) number: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(super) registers: BTreeMap<String, u64>,
}
