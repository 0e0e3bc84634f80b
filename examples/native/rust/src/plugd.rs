//! `plugd.h` for Rust: its structures as they are, and what is needed to use them without `unsafe` elsewhere.
//!
//! A plugin implements [`Plugin`], and puts [`open`], [`collect`] and [`close`] of its type into its [`Descriptor`].
//! What each member means stands in `plugd.h`.

#![allow(dead_code)]

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};

pub const ABI_VERSION: u32 = 1;
pub const OK: c_int = 0;
pub const FAILED: c_int = 1;

pub const GAUGE: u32 = 1;
pub const COUNTER: u32 = 2;

pub const TYPE_NULL: u32 = 0;
pub const TYPE_BOOL: u32 = 1;
pub const TYPE_INT: u32 = 2;
pub const TYPE_FLOAT: u32 = 3;
pub const TYPE_STRING: u32 = 4;

/// Text with the zero byte behind it that C wants: `text!("s")`.
#[macro_export]
macro_rules! text {
    ($text:expr) => {
        concat!($text, "\0").as_ptr() as *const std::ffi::c_char
    };
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Value {
    pub kind: u32,
    pub reserved: u32,
    pub integer: i64,
    pub number: f64,
    pub text: *const c_char,
    pub size: usize,
}

impl Value {
    pub const NULL: Value =
        Value { kind: TYPE_NULL, reserved: 0, integer: 0, number: 0.0, text: std::ptr::null(), size: 0 };

    pub const fn bool(value: bool) -> Value {
        Value { kind: TYPE_BOOL, integer: value as i64, ..Value::NULL }
    }

    pub const fn int(value: i64) -> Value {
        Value { kind: TYPE_INT, integer: value, ..Value::NULL }
    }
}

#[repr(C)]
pub struct Metric {
    pub kind: u32,
    pub label_count: u32,
    pub name: *const c_char,
    pub unit: *const c_char,
    pub labels: *const *const c_char,
    pub help: *const c_char,
}

#[repr(C)]
pub struct Parameter {
    pub name: *const c_char,
    pub help: *const c_char,
    pub kind: u32,
    pub flags: u32,
    pub initial: Value,
    pub minimum: Value,
    pub maximum: Value,
    pub choices: *const Value,
    pub choice_count: u32,
    pub reserved: u32,
}

impl Parameter {
    pub const fn new(name: *const c_char, help: *const c_char, kind: u32, initial: Value) -> Parameter {
        Parameter {
            name,
            help,
            kind,
            flags: 0,
            initial,
            minimum: Value::NULL,
            maximum: Value::NULL,
            choices: std::ptr::null(),
            choice_count: 0,
            reserved: 0,
        }
    }
}

#[repr(C)]
pub struct Setting {
    pub get: Option<unsafe extern "C" fn(*mut HostRecord, u32) -> c_int>,
    pub set: Option<unsafe extern "C" fn(*mut HostRecord, u32, *const Value) -> c_int>,
    pub declared: Parameter,
}

#[repr(C)]
pub struct Command {
    pub name: *const c_char,
    pub help: *const c_char,
    pub parameters: *const Parameter,
    pub parameter_count: u32,
    pub reserved: u32,
    pub call: Option<unsafe extern "C" fn(*mut HostRecord, u32, *const Value) -> c_int>,
}

#[repr(C)]
pub struct Header {
    pub abi_version: u32,
    pub descriptor_size: u32,
    pub metric_size: u32,
    pub parameter_size: u32,
    pub setting_size: u32,
    pub command_size: u32,
    pub value_size: u32,
    pub reserved: u32,
}

pub const HEADER: Header = Header {
    abi_version: ABI_VERSION,
    descriptor_size: std::mem::size_of::<Descriptor>() as u32,
    metric_size: std::mem::size_of::<Metric>() as u32,
    parameter_size: std::mem::size_of::<Parameter>() as u32,
    setting_size: std::mem::size_of::<Setting>() as u32,
    command_size: std::mem::size_of::<Command>() as u32,
    value_size: std::mem::size_of::<Value>() as u32,
    reserved: 0,
};

#[repr(C)]
pub struct Descriptor {
    pub header: Header,
    pub name: *const c_char,
    pub version: *const c_char,
    pub description: *const c_char,
    pub interval: f64,
    pub timeout: f64,
    pub metrics: *const Metric,
    pub options: *const Parameter,
    pub settings: *const Setting,
    pub commands: *const Command,
    pub metric_count: u32,
    pub option_count: u32,
    pub setting_count: u32,
    pub command_count: u32,
    pub open: Option<unsafe extern "C" fn(*mut HostRecord, *const Value) -> c_int>,
    pub collect: Option<unsafe extern "C" fn(*mut HostRecord, *mut BufferRecord) -> c_int>,
    pub close: Option<unsafe extern "C" fn(*mut HostRecord)>,
    pub reconfigure: Option<unsafe extern "C" fn(*mut HostRecord, *const Value) -> c_int>,
    pub save_state: Option<unsafe extern "C" fn(*mut HostRecord) -> c_int>,
    pub load_state: Option<unsafe extern "C" fn(*mut HostRecord, *const Value) -> c_int>,
}

// What is declared is never changed, and lives as long as the process.
unsafe impl Sync for Descriptor {}
unsafe impl Sync for Metric {}
unsafe impl Sync for Parameter {}

#[repr(C)]
pub struct HostRecord {
    pub size: u32,
    pub abi_version: u32,
    pub data: *mut c_void,
    pub internal: *mut c_void,
    pub name: *const c_char,
    pub version: *const c_char,
    pub series: unsafe extern "C" fn(*mut HostRecord, u32, *const *const c_char, u32) -> u32,
    pub reply: unsafe extern "C" fn(*mut HostRecord, *const Value),
    pub fail: unsafe extern "C" fn(*mut HostRecord, *const c_char, usize),
}

#[repr(C)]
pub struct BufferRecord {
    pub size: u32,
    pub capacity: u32,
    pub series: *mut u32,
    pub values: *mut f64,
    pub count: u32,
    pub overflow_series: u32,
    pub overflow: u64,
}

/// The host, for the time of one call.
pub struct Host(*mut HostRecord);

impl Host {
    /// The id of a series; see `plugd_series()`.
    pub fn series(&self, metric: u32, labels: &[&str]) -> u32 {
        // A zero byte ends what C takes for text.
        let owned: Vec<CString> =
            labels.iter().map(|label| CString::new(label.replace('\0', "")).expect("has none now")).collect();
        let pointers: Vec<*const c_char> = owned.iter().map(|label| label.as_ptr()).collect();
        unsafe { ((*self.0).series)(self.0, metric, pointers.as_ptr(), pointers.len() as u32) }
    }

    /// The plugin's name.
    pub fn name(&self) -> String {
        unsafe { CStr::from_ptr((*self.0).name) }.to_string_lossy().into_owned()
    }

    fn fail(&self, reason: &str) -> c_int {
        unsafe { ((*self.0).fail)(self.0, reason.as_ptr() as *const c_char, reason.len()) };
        FAILED
    }
}

/// Where the samples of one collection go.
pub struct Buffer(*mut BufferRecord);

impl Buffer {
    /// Add a sample; see `plugd_emit()`.
    pub fn emit(&mut self, series: u32, value: f64) {
        let buffer = unsafe { &mut *self.0 };
        if buffer.count >= buffer.capacity {
            if buffer.overflow == 0 {
                buffer.overflow_series = series;
            }
            buffer.overflow += 1;
            return;
        }
        unsafe {
            *buffer.series.add(buffer.count as usize) = series;
            *buffer.values.add(buffer.count as usize) = value;
        }
        buffer.count += 1;
    }
}

/// What a plugin does; what it returns as an error, and what it panics with, is told by `plugctl why`.
pub trait Plugin: Sized {
    /// Options, of which there are as many as are declared, in their order.
    fn open(host: &Host, options: *const Value) -> Result<Self, String>;
    fn collect(&mut self, host: &Host, buffer: &mut Buffer) -> Result<(), String>;
}

fn guarded(host: *mut HostRecord, function: impl FnOnce() -> Result<(), String>) -> c_int {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(())) => OK,
        Ok(Err(reason)) => Host(host).fail(&reason),
        Err(_) => Host(host).fail("it panicked; its output has the reason"),
    }
}

pub unsafe extern "C" fn open<P: Plugin>(host: *mut HostRecord, options: *const Value) -> c_int {
    guarded(host, || {
        let plugin = P::open(&Host(host), options)?;
        (*host).data = Box::into_raw(Box::new(plugin)) as *mut c_void;
        Ok(())
    })
}

pub unsafe extern "C" fn collect<P: Plugin>(host: *mut HostRecord, buffer: *mut BufferRecord) -> c_int {
    guarded(host, || (*((*host).data as *mut P)).collect(&Host(host), &mut Buffer(buffer)))
}

pub unsafe extern "C" fn close<P: Plugin>(host: *mut HostRecord) {
    guarded(host, || {
        drop(Box::from_raw((*host).data as *mut P));
        Ok(())
    });
}
