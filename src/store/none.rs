//! No persistence at all: `store none`.

use super::{Recovery, Store, StoreError};
use crate::hsm::ActionItem;
use crate::hsm::effect::StoreOp;

/// Forgets everything. What a crash loses is found again at the MDT, if at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStore;

impl Store for NoStore {
    fn recover(
        &mut self,
        _found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<Recovery, StoreError> {
        Ok(Recovery::default())
    }

    fn append(&mut self, _ops: &[StoreOp]) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "no store".to_owned()
    }
}
