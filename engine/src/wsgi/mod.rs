//! WSGI (PEP 3333) over an [`Exchange`]: loading scripts, calling applications, relaying what they answer.

#![forbid(unsafe_code)]

mod engine;
pub mod environ;
mod errors;
pub mod exchange;
mod hooks;
mod input;
mod interpreter;
pub mod response;
mod run;
mod script;
mod start_response;
mod turn;

pub use engine::{Call, Engine, Facts, GroupFacts, Host, Outcome, VERSION};
pub use environ::{Environ, Key, Sink};
pub use exchange::{Exchange, Level, ReadFault, SendFault, Then};
pub use hooks::{Asked, Password, Place, Unanswered};
pub use response::Head;
