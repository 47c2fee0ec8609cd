//! The members of a virtual network by their numbers, which are small: a list with gaps.

use std::ops::Index;

use super::Machine;

#[derive(Default)]
pub(crate) struct Machines {
    slots: Vec<Option<Machine>>,
    count: usize,
}

impl Machines {
    pub(crate) fn insert(&mut self, id: u64, machine: Machine) {
        let place = id as usize;
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, || None);
        }
        self.count += usize::from(self.slots[place].replace(machine).is_none());
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Machine> {
        let removed = self.slots.get_mut(id as usize)?.take();
        self.count -= usize::from(removed.is_some());
        removed
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Machine> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn contains_key(&self, id: u64) -> bool {
        self.slots.get(id as usize).is_some_and(Option::is_some)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Machine)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(id, slot)| Some((id as u64, slot.as_ref()?)))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.iter().map(|(id, _)| id)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Machine> {
        self.iter().map(|(_, machine)| machine)
    }
}

impl Index<&u64> for Machines {
    type Output = Machine;

    fn index(&self, id: &u64) -> &Machine {
        self.slots[*id as usize].as_ref().expect("it runs")
    }
}
