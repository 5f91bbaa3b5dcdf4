//! The messages in a file of events: the fields of TensorFlow's `event.proto`, `summary.proto` and
//! `tensor.proto` that are written here, by the numbers that they have there.

use prost::{Message, Oneof};

use crate::logs::histogram::Histogram;

/// One entry of the file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    /// Where on the x axis it stands.
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    /// What happened.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub(super) what: Option<What>,
}

/// What an [`Event`] says.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    /// The first entry of each file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Values.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A start: whatever files before this one have from its step on is void.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values at one step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// One value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    /// Whose it is, in groups: `losses/policy`.
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
    #[prost(oneof = "Content", tags = "2, 5, 8")]
    pub(super) content: Option<Content>,
}

/// What a [`Value`] holds.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "5")]
    Histogram(HistogramProto),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
}

/// A histogram, whose buckets end at their limits.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramProto {
    #[prost(double, tag = "1")]
    pub(super) min: f64,
    #[prost(double, tag = "2")]
    pub(super) max: f64,
    #[prost(double, tag = "3")]
    pub(super) num: f64,
    #[prost(double, tag = "4")]
    pub(super) sum: f64,
    #[prost(double, tag = "5")]
    pub(super) sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    pub(super) bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub(super) bucket: Vec<f64>,
}

/// Which of TensorBoard's plugins shows a value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// A tensor of texts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) texts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) extents: Vec<Extent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Extent {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;
/// `DataType.DT_STRING`.
const STRING: i32 = 7;

impl What {
    /// The version of the format, in which a start makes void what is from its step on.
    pub(super) fn file_version() -> Self {
        Self::FileVersion("brain.Event:2".to_owned())
    }

    /// A start.
    pub(super) const fn start() -> Self {
        Self::SessionLog(SessionLog { status: START })
    }

    /// A text in Markdown.
    pub(super) fn text(tag: &str, text: &str) -> Self {
        Self::Summary(Summary {
            values: vec![Value {
                tag: tag.to_owned(),
                metadata: Some(Metadata {
                    plugin: Some(Plugin {
                        name: "text".to_owned(),
                    }),
                }),
                content: Some(Content::Tensor(TensorProto {
                    kind: STRING,
                    shape: Some(Shape {
                        extents: vec![Extent { size: 1 }],
                    }),
                    texts: vec![text.as_bytes().to_vec()],
                })),
            }],
        })
    }
}

impl Value {
    /// A number. The format has it as `f32`.
    pub(super) fn scalar(tag: &str, value: f64) -> Self {
        Self {
            tag: tag.to_owned(),
            metadata: None,
            content: Some(Content::Scalar(value as f32)),
        }
    }

    /// A histogram.
    pub(super) fn histogram(tag: &str, histogram: &Histogram) -> Self {
        Self {
            tag: tag.to_owned(),
            metadata: None,
            content: Some(Content::Histogram(HistogramProto {
                min: histogram.min,
                max: histogram.max,
                num: histogram.count,
                sum: histogram.sum,
                sum_squares: histogram.sum_of_squares,
                bucket_limit: histogram.limits.clone(),
                bucket: histogram.counts.clone(),
            })),
        }
    }
}
