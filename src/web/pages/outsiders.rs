//! What they see who may only look, where reading is for everybody: nothing that rows contain. A
//! function of the application may raise any text.

use super::access::Viewer;
use super::guard::Visit;
use crate::report::{error_text, finding_text};

impl Visit {
    /// Leaves of errors what may be told to others.
    pub(super) fn errors<'a>(&self, errors: impl Iterator<Item = &'a mut Option<String>>) {
        if self.viewer == Viewer::Reader {
            errors.flatten().for_each(|text| *text = error_text(text));
        }
    }

    /// The same of what findings say.
    pub(super) fn findings<'a>(&self, messages: impl Iterator<Item = &'a mut String>) {
        if self.viewer == Viewer::Reader {
            messages.for_each(|text| *text = finding_text(text));
        }
    }
}
