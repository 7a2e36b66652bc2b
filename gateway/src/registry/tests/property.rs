//! How properties are run: with a seed that is printed when one fails, so that the same cases can be run again.

use std::hash::{BuildHasher, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// The variable that repeats a run; `PROPTEST_CASES` says how many cases it has.
const SEED_VARIABLE: &str = "GATEWAY_TEST_SEED";

/// Runs other cases each time.
pub(crate) fn holds<S: Strategy>(scenarios: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let given = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| RandomState::new().hash_one("seed"));
    let config = Config { failure_persistence: None, max_shrink_iters: 10_000, ..Config::default() };
    if let Err(error) = runner(config, seed).run(scenarios, property) {
        panic!("with {SEED_VARIABLE}={seed} it fails: {error}");
    }
}

/// Runs always the same cases, so that a fault is found in each run or in none.
pub(crate) fn fixed_runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    runner(config, 0)
}

fn runner(config: Config, seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
