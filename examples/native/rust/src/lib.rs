//! Sockets of the host by protocol and state: /proc/net/sockstat, proc_net(5).
//!
//!     cargo build --release && cp target/release/libsockets.so sockets.so

#[macro_use]
mod plugd;

use plugd::{Buffer, Descriptor, Host, Metric, Parameter, Plugin, Value, COUNTER, GAUGE, HEADER, TYPE_BOOL};
use std::fs;
use std::os::raw::c_char;

const PATH: &str = "/proc/net/sockstat";
const COUNT: u32 = 0;
const COLLECTIONS: u32 = 1;

struct Sockets {
    memory: bool,
    collections: u64,
}

impl Plugin for Sockets {
    fn open(_host: &Host, options: *const Value) -> Result<Self, String> {
        let memory = unsafe { (*options).integer != 0 };
        Ok(Sockets { memory, collections: 0 })
    }

    fn collect(&mut self, host: &Host, buffer: &mut Buffer) -> Result<(), String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("cannot read {PATH}: {error}"))?;
        for (protocol, state, value) in parse(&text) {
            if self.memory || !state.starts_with("mem") {
                buffer.emit(host.series(COUNT, &[protocol, state]), value);
            }
        }
        self.collections += 1;
        buffer.emit(host.series(COLLECTIONS, &[]), self.collections as f64);
        Ok(())
    }
}

/// Lines such as `TCP: inuse 27 orphan 0 tw 12 alloc 31 mem 4`; what is no number is left out.
fn parse(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    text.lines().filter_map(|line| line.split_once(": ")).flat_map(|(protocol, rest)| {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let pairs: Vec<_> = words
            .chunks_exact(2)
            .filter_map(|pair| Some((protocol, pair[0], pair[1].parse().ok()?)))
            .collect();
        pairs
    })
}

struct Labels([*const c_char; 2]);
unsafe impl Sync for Labels {}

static LABELS: Labels = Labels([text!("network.protocol"), text!("socket.state")]);

static METRICS: [Metric; 2] = [
    Metric {
        kind: GAUGE,
        label_count: 2,
        name: text!("system.network.sockets"),
        unit: text!("{socket}"),
        labels: LABELS.0.as_ptr(),
        help: text!("Sockets that are in a state; for the state mem: pages."),
    },
    Metric {
        kind: COUNTER,
        label_count: 0,
        name: text!("sockets.collections"),
        unit: text!("{collection}"),
        labels: std::ptr::null(),
        help: text!("Collections since the plugin was loaded."),
    },
];

static OPTIONS: [Parameter; 1] =
    [Parameter::new(text!("memory"), text!("Whether pages of memory are reported."), TYPE_BOOL, Value::bool(true))];

static PLUGIN: Descriptor = Descriptor {
    header: HEADER,
    name: text!("sockets"),
    version: text!(env!("CARGO_PKG_VERSION")),
    description: text!("Sockets of the host by protocol and state."),
    interval: 10.0,
    timeout: 0.0,
    metrics: METRICS.as_ptr(),
    options: OPTIONS.as_ptr(),
    settings: std::ptr::null(),
    commands: std::ptr::null(),
    metric_count: METRICS.len() as u32,
    option_count: OPTIONS.len() as u32,
    setting_count: 0,
    command_count: 0,
    open: Some(plugd::open::<Sockets>),
    collect: Some(plugd::collect::<Sockets>),
    close: Some(plugd::close::<Sockets>),
    reconfigure: None,
    save_state: None,
    load_state: None,
};

#[no_mangle]
pub extern "C" fn plugd_plugin() -> *const Descriptor {
    &PLUGIN
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_is_a_protocol_and_pairs() {
        let rows: Vec<_> = super::parse("sockets: used 8\nTCP: inuse 1 tw x mem 2\n").collect();
        assert_eq!(rows, [("sockets", "used", 8.0), ("TCP", "inuse", 1.0), ("TCP", "mem", 2.0)]);
    }
}
