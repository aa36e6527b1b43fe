//! How a daemon's Python is called.

use crate::wire::control::{PythonPlan, Variable};

/// What a daemon's Python is given to run, by `-c`. The text is seen by `ps`.
const BOOTSTRAP: &str = include_str!("../bootstrap.py");

/// Arguments and environment of a daemon's Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name it is called by first: Python finds its installation, or its virtual environment, by that.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<Variable>,
}

/// Calls the Python of this path, in this environment.
///
/// What can be said by options is: they hold for this process, and Python itself sees to what of them its own
/// children get. What Python reads from its environment alone is taken out of that again by the bootstrap, to which
/// the names are given, so that programs which the application starts do not find it. What is in `environment`
/// already, the administrator wrote there, and it stays.
#[must_use]
pub fn call(python: &str, plan: &PythonPlan, environment: &[Variable]) -> Call {
    let mut arguments = vec![python.to_owned()];
    match plan.optimize {
        0 => {}
        1 => arguments.push("-O".to_owned()),
        _ => arguments.push("-OO".to_owned()),
    }
    if plan.dont_write_bytecode {
        arguments.push("-B".to_owned());
    }
    for filter in &plan.warnings {
        arguments.extend(["-W".to_owned(), filter.clone()]);
    }
    arguments.extend(["-c".to_owned(), BOOTSTRAP.to_owned()]);
    let mut environment = environment.to_vec();
    let seed = plan.hash_seed.map(|seed| ("PYTHONHASHSEED", seed.to_string()));
    // Other builds take no notice of it.
    let gil = plan.gil.then(|| ("PYTHON_GIL", "1".to_owned()));
    for (name, value) in seed.into_iter().chain(gil) {
        if environment.iter().all(|variable| variable.name != name) {
            environment.push(Variable { name: name.to_owned(), value });
            arguments.push(name.to_owned());
        }
    }
    Call { arguments, environment }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> Variable {
        Variable { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn nothing_is_said_that_was_not_written() {
        let given = [variable("LANG", "C.UTF-8")];
        let call = call("/usr/bin/python3", &PythonPlan::default(), &given);
        assert_eq!(call.arguments, ["/usr/bin/python3", "-c", BOOTSTRAP]);
        assert_eq!(call.environment, given);
    }

    #[test]
    fn options_come_first_and_variables_are_named_to_the_bootstrap() {
        let plan = PythonPlan {
            optimize: 2,
            dont_write_bytecode: true,
            warnings: vec!["error".to_owned(), "ignore::ImportWarning".to_owned()],
            hash_seed: Some(7),
            gil: true,
            ..PythonPlan::default()
        };
        let called = call("/p", &plan, &[]);
        let options = ["/p", "-OO", "-B", "-W", "error", "-W", "ignore::ImportWarning", "-c"];
        assert_eq!(called.arguments[..8], options);
        assert_eq!(called.arguments[9..], ["PYTHONHASHSEED", "PYTHON_GIL"]);
        let expected = [variable("PYTHONHASHSEED", "7"), variable("PYTHON_GIL", "1")];
        assert_eq!(called.environment, expected);

        // What the administrator wrote holds, and stays.
        let own = [variable("PYTHONHASHSEED", "8")];
        let called = call("/p", &plan, &own);
        assert_eq!(called.arguments[9..], ["PYTHON_GIL"]);
        assert_eq!(called.environment[0], own[0]);
    }
}
