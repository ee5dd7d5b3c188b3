//! The times of models on a device.

use std::{fmt, io, path::Path};

use serde::{Deserialize, Serialize};

use super::shell::{self, Cell};
use crate::{
    cost::LayerTimes,
    dims::Dims,
    durable, limits,
    model::ModelSpec,
    text::{html as escape, number},
};

/// The times of layers on a device, as the example `latency` measures them and writes them to the folder of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The device.
    pub device: String,
    /// The widths of the layers.
    pub dims: Dims,
    /// Seconds per kind of layer.
    pub times: LayerTimes,
}

impl Latency {
    /// The name of the file in the folder of a run.
    pub const FILE: &str = "latency.json";

    /// Reads the times from the folder of a run, or returns `None` if nothing was measured.
    ///
    /// # Errors
    /// The I/O error if the file cannot be read, [`io::ErrorKind::InvalidData`] if it has other contents. The message
    /// names the file.
    pub fn read(folder: impl AsRef<Path>) -> io::Result<Option<Self>> {
        let path = folder.as_ref().join(Self::FILE);
        let told = |kind, error: &dyn fmt::Display| {
            let words =
                format!("{} holds no times of layers: {error}; measure them again or delete it", path.display());
            io::Error::new(kind, words)
        };
        match limits::read(&path, limits::MAX_DESCRIPTION) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| told(io::ErrorKind::InvalidData, &error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(told(error.kind(), &error)),
        }
    }

    /// Writes the times to the folder of a run.
    ///
    /// # Errors
    /// The I/O error if the file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> io::Result<()> {
        durable::write_in(&folder.as_ref().join(Self::FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// Returns a table of the models whose layers were all timed, relative to the first of them. Empty for models with
    /// other widths.
    pub(super) fn section(&self, models: &[(String, &ModelSpec)]) -> String {
        let own = models.iter().filter(|(_, spec)| spec.dims == self.dims);
        let timed: Vec<_> = own.filter_map(|(name, spec)| Some((name, self.times.of(&spec.architecture)?))).collect();
        let Some(&(_, first)) = timed.first() else { return String::new() };
        let cell = |seconds: f64| Cell::number(seconds, number(1e3 * seconds, 1));
        let faster = |first: f64, seconds: f64| Cell::number(first / seconds, number(first / seconds, 2) + "x");
        let rows: Vec<_> = timed
            .iter()
            .map(|(name, time)| {
                let prefill = time.prefill;
                let decode = time.decode;
                let faster = [faster(first.prefill, prefill), faster(first.decode, decode)];
                [Cell::text(name), cell(prefill), cell(decode)].into_iter().chain(faster).collect()
            })
            .collect();
        let timing = &self.times.timing;
        let heads = ["model", "prefill, ms", "decode per token, ms", "prefill speedup", "decode speedup"];
        format!(
            "<h3>Measured on {}</h3>\n<p class=\"soft\">Batches of {}, prompts and caches of {} tokens; the sum of the \
             layers, each the median of {} measurements.</p>\n{}",
            escape(&self.device),
            timing.batch,
            timing.seq_len,
            timing.repeats,
            shell::table("latency", &heads, &rows, rows.len())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cost::{Seconds, Timing},
        extrapolate::Target,
        primitive::Symbol,
    };

    #[test]
    fn times_are_kept_in_a_folder_and_shown_beside_the_first_model() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Latency::read(folder.path()).unwrap(), None);
        let target = Target::llama_1b();
        let seconds = |prefill, decode| Seconds { prefill, decode };
        let layers = [(Symbol::ATTENTION, seconds(0.002, 0.001)), (Symbol::SWIGLU, seconds(0.004, 0.001))];
        let timing = Timing { batch: 1, seq_len: 64, repeats: 3 };
        let times = LayerTimes { timing, layers: layers.into(), ends: Seconds::default() };
        let latency = Latency { device: "CPU <here>".into(), dims: target.dims.clone(), times };
        latency.write(folder.path()).unwrap();
        assert_eq!(Latency::read(folder.path()).unwrap().as_ref(), Some(&latency));

        let [four, two, odd] = ["2A+2M", "2A", "Z"].map(|text| target.model(text.parse().unwrap()));
        let models = [("four".into(), &four), ("two".into(), &two), ("odd".into(), &odd)];
        let html = latency.section(&models);
        assert!(html.contains("CPU &lt;here&gt;") && html.contains(">12.0<") && html.contains(">3.00x<"), "{html}");
        assert!(!html.contains("odd"));
        assert_eq!(latency.section(&[("small".into(), &Target::llama_350m().model("A".parse().unwrap()))]), "");

        std::fs::write(folder.path().join(Latency::FILE), "{\"a\":").unwrap();
        let error = Latency::read(folder.path()).unwrap_err();
        let words = error.to_string();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(words.contains("latency.json holds no times") && words.contains("delete it"), "{words}");
    }
}
