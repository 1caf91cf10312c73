//! Tests in a network of their own, whoever runs them.

use std::any::type_name_of_val;
use std::env;
use std::panic::{catch_unwind, resume_unwind};
use std::process::{Command, Stdio};

use crate::netlink::Netlink;

/// Set for the process inside; its value means nothing.
const INSIDE: &str = "PORTCULLIS_TEST_NETWORK";

/// Runs `body`, a closure of a test, where that test has every privilege over a network of nobody else: the test's
/// program is started once more for this one test, in a network namespace that ends with it, and as root of a user
/// namespace when it is not run by root. Nothing is passed over: where the kernel refuses namespaces the test fails.
pub(crate) fn in_a_network_of_its_own(body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        Netlink::open().and_then(|mut netlink| netlink.link_up(1, 65_536)).expect("the loopback interface");
        return body();
    }
    let name = type_name_of_val(&body);
    let path = name.split_once("::").and_then(|(_, path)| path.split_once("::{{closure}}"));
    let (test, _) = path.expect("a closure of a test");
    let ways: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
    let unshare = |way: &[&str], program: &str| {
        let mut command = Command::new("unshare");
        command.args(way).arg("--").arg(program);
        command
    };
    let works = |way: &&&[&str]| unshare(way, "true").stderr(Stdio::null()).status().is_ok_and(|end| end.success());
    let Some(way) = ways.iter().find(works) else {
        panic!(
            "this test needs a network namespace: run it as root, or allow user namespaces (user.max_user_namespaces)"
        )
    };
    let program = env::current_exe().unwrap();
    let mut inner = unshare(way, program.to_str().unwrap());
    let output = inner.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test {test}: {said}");
}

#[test]
fn what_fails_in_a_network_of_its_own_fails_outside() {
    let failed = catch_unwind(|| in_a_network_of_its_own(|| panic!("seen from outside"))).unwrap_err();
    if env::var_os(INSIDE).is_some() {
        resume_unwind(failed);
    }
    let said = failed.downcast_ref::<String>().expect("words");
    assert!(said.contains("seen from outside"), "{said}");
}
