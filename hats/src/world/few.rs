//! Lists by name, for names of which there are many with few things each.

use std::sync::Arc;

use imbl::OrdMap;

use super::Name;

/// A sorted list for each name that has one. A list is as small as what is in it, and made anew by each change.
#[derive(Clone, Debug)]
pub(super) struct Few<T>(OrdMap<Name, Arc<[T]>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(OrdMap::default())
    }
}

impl<T: Clone + Ord> Few<T> {
    /// What a name has, sorted.
    pub fn of(&self, name: &str) -> Option<&Arc<[T]>> {
        self.0.get(name)
    }

    pub fn put(&mut self, name: &str, item: T) {
        let Some(list) = self.0.get_mut(name) else {
            self.0.insert(name.into(), Arc::new([item]));
            return;
        };
        if let Err(place) = list.binary_search(&item) {
            let (before, after) = list.split_at(place);
            *list = before.iter().cloned().chain([item]).chain(after.iter().cloned()).collect();
        }
    }

    pub fn take(&mut self, name: &str, item: &T) {
        let Some(list) = self.0.get_mut(name) else { return };
        *list = list.iter().filter(|known| *known != item).cloned().collect();
        if list.is_empty() {
            self.0.remove(name);
        }
    }
}
