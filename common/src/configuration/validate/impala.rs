//! The section of V-trace actor-critic.

use super::{Check, above};
use crate::configuration::Configuration;

impl Check {
    pub(super) fn impala(&mut self, configuration: &Configuration) {
        let impala = &configuration.impala;
        self.range(
            "impala.learning_rate",
            impala.learning_rate,
            above(0.0, 1.0),
        );
        self.range("impala.adam_epsilon", impala.adam_epsilon, above(0.0, 1.0));
        self.range("impala.adam_beta1", impala.adam_beta1, 0.0..1.0);
        self.range("impala.adam_beta2", impala.adam_beta2, 0.0..1.0);
        self.range("impala.discount", impala.discount, 0.0..=1.0);
        self.range("impala.lambda", impala.lambda, 0.0..=1.0);
        self.vtrace_clips(
            ("impala.rho_clip", impala.rho_clip),
            ("impala.c_clip", impala.c_clip),
        );
        self.range(
            "impala.policy_rho_clip",
            impala.policy_rho_clip,
            above(0.0, 1e6),
        );
        self.range(
            "impala.value_coefficient",
            impala.value_coefficient,
            0.0..=1e6,
        );
        self.range(
            "impala.entropy_coefficient",
            impala.entropy_coefficient,
            0.0..=1e6,
        );
        self.optional_range(
            "impala.max_gradient_norm",
            impala.max_gradient_norm,
            above(0.0, 1e6),
        );
    }

    /// Checks the clips of V-trace, rho-bar and c-bar, of any algorithm (Espeholt and others 2018,
    /// theorem 1, which asks for rho-bar to be at least c-bar).
    pub(super) fn vtrace_clips(&mut self, rho: (&str, f64), c: (&str, f64)) {
        for (path, clip) in [rho, c] {
            self.range(path, clip, above(0.0, 1e6));
        }
        if rho.1 < c.1 {
            self.impossible(
                &[(rho.0, &rho.1), (c.0, &c.1)],
                "the targets of V-trace lead to a fixed point only where rho is clipped no lower than \
                 c",
                format!("set {} to at most {}", c.0, rho.1),
            );
        }
    }
}
