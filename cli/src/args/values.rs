//! Texts that are typed, as values.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use hatrack_api::cluster_node::{Class, Expects, Profile, check_name};

/// A name that a node can have.
pub fn node_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A class of nodes.
pub fn class() -> impl TypedValueParser<Value = Class> {
    one_of(Class::ALL, Class::as_str)
}

/// A profile of nodes.
pub fn profile() -> impl TypedValueParser<Value = Profile> {
    use Profile::{CloudHub, Community, Edge, HomeBusiness, Leaf};
    one_of([CloudHub, Community, HomeBusiness, Edge, Leaf], Profile::as_str)
}

/// One of a few values by its name in manifests; shells complete the names.
fn one_of<T, const N: usize>(values: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let find = move |text: String| values.into_iter().find(|value| name(*value) == text);
    PossibleValuesParser::new(values.map(name)).try_map(move |text| find(text).ok_or("the name is unknown"))
}

/// What should be usable on a node.
pub fn expects(text: &str) -> Result<Expects, String> {
    let mut expects = Expects::default();
    for part in text.split(',') {
        let (kind, number) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KIND=N"))?;
        let number = number.parse().ok().filter(|number| (0..=Expects::MOST).contains(number));
        let number = Some(number.ok_or_else(|| format!("`{part}`: a number from 0 to {} is needed", Expects::MOST))?);
        match kind {
            "gpus" => expects.gpus = number,
            "phones" => expects.phones = number,
            "accelerators" => expects.accelerators = number,
            _ => return Err(format!("`{kind}` is none of gpus, phones, accelerators")),
        }
    }
    Ok(expects)
}

/// A wait.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|wait| !wait.is_zero()).ok_or_else(|| "a number of seconds above 0 is needed".to_owned())
}
