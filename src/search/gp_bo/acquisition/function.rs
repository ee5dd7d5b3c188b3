//! The choice of an acquisition function.

/// How much the evaluation of a sequence promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquisitionFunction {
    /// The logarithm of the noisy expected improvement over the sequences observed and pending (Ament et al. 2023,
    /// arXiv 2310.20708): by Monte Carlo, exact about noise and about what is pending.
    QLogNei,
    /// The logarithm of the expected improvement over the best posterior mean, in closed form. Pending trials are
    /// believed to come out as predicted (Ginsbourger et al. 2010, "Kriging is well-suited to parallelize
    /// optimization").
    LogEi,
}
