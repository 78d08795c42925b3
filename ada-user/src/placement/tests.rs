//! Each rule, with the case that keeps it and the case that breaks it.
