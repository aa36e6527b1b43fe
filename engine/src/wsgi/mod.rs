//! WSGI (PEP 3333) over an [`Exchange`]: loading scripts, calling applications, relaying what they answer.

#![forbid(unsafe_code)]

mod api;
mod engine;
pub mod environ;
mod errors;
pub mod exchange;
mod fault;
mod hooks;
mod input;
mod interpreter;
mod meter;
mod metrics;
pub mod response;
mod run;
pub mod scoreboard;
mod script;
mod start_response;
mod tls;
mod turn;
mod watch;

pub(crate) use engine::EXIT_DEADLINE;
pub use engine::{Attached, Call, Engine, Facts, GroupFacts, Host, Outcome, VERSION};
pub use environ::{Environ, Key, Sink};
pub use exchange::{Exchange, Level, ReadFault, SendFault, Source, Then};
pub use hooks::{Asked, Password, Place, Unanswered};
pub use response::Head;
pub use scoreboard::Scoreboard;
