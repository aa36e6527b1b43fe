//! The program that keeps the daemon processes of mod_wsgi_rs; started by httpd, not by people.

use std::process::ExitCode;

fn main() -> ExitCode {
    match mod_wsgi_supervisor::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mod_wsgi_supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}
