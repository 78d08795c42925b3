//! Parameters and return value of a function's entry.
//!
//! Invariant: parameters are those of the source, in its order, also where the compiler dropped some from the copy that
//! was compiled.

use gimli::{AttributeValue, constants as dw};

use super::DebugInfo;
use super::die::{Die, Entry};
use super::resolve::Depth;
use crate::types::model::{Declared, Language, Prototype, Seen};

impl DebugInfo {
    /// What the function takes and gives back; `None` if the entry is damaged.
    pub(super) fn prototype_of(&self, die: Die, address: u64) -> Option<Prototype> {
        let chain = self.chain(die);
        let language = self.language(chain.first()?);
        // An abstract instance has all parameters; what it or the function itself defines may only have types.
        let lists: Vec<Vec<Entry>> = chain.iter().map(|entry| self.children(entry)).collect();
        let is_instance = chain.first()?.value(dw::DW_AT_abstract_origin).is_some();
        let preferred = lists.get(usize::from(is_instance)).filter(|list| has_parameters(list));
        let list = preferred.or_else(|| lists.iter().find(|list| has_parameters(list)));
        let list = list.map_or(&[][..], Vec::as_slice);
        let parameters = list.iter().filter(|child| child.tag() == dw::DW_TAG_formal_parameter);
        let mut found = Vec::new();
        for parameter in parameters {
            found.push(self.parameter(parameter.die, language, chain.first()?, lists.first()?, address)?);
        }
        let returned = self.chained(&chain, dw::DW_AT_type);
        let returns = returned.and_then(|die| self.resolve(die, language, Depth::Whole));
        let returns = returns.filter(|of| !(of.name == "()" || of.name == "!"));
        let variadic = list.iter().any(|child| child.tag() == dw::DW_TAG_unspecified_parameters);
        Some(Prototype { language, parameters: found, returns, variadic })
    }

    /// `own` are the children of the function itself, one of which may be an instance of the parameter.
    fn parameter(
        &self,
        die: Die,
        language: Language,
        function: &Entry,
        own: &[Entry],
        address: u64,
    ) -> Option<Declared> {
        let chain = self.chain(die);
        let name = chain.iter().find_map(|entry| self.text(entry, dw::DW_AT_name)).unwrap_or_default();
        let of = self.resolve(self.chained(&chain, dw::DW_AT_type)?, language, Depth::Whole)?;
        let is_it = |entry: &&Entry| {
            entry.die == die || self.reference(entry, dw::DW_AT_abstract_origin).is_some_and(|origin| origin == die)
        };
        let instance = own.iter().find(is_it);
        let seen = instance.map_or(Seen::Unsaid, |instance| self.seen(function, instance, address, of.size));
        Some(Declared { name, of, seen })
    }

    /// The language of an entry's unit; what is not known calls like C.
    fn language(&self, entry: &Entry) -> Language {
        let root = entry.unit.raw.header.root_offset();
        let root = self.entry(Die { offset: root, ..entry.die });
        match root.and_then(|root| root.value(dw::DW_AT_language)) {
            Some(AttributeValue::Language(language)) => of_number(language),
            _ => Language::C,
        }
    }
}

fn has_parameters(list: &[Entry]) -> bool {
    list.iter().any(|child| child.tag() == dw::DW_TAG_formal_parameter)
}

fn of_number(language: gimli::DwLang) -> Language {
    match language {
        dw::DW_LANG_C_plus_plus
        | dw::DW_LANG_C_plus_plus_03
        | dw::DW_LANG_C_plus_plus_11
        | dw::DW_LANG_C_plus_plus_14
        | dw::DW_LANG_C_plus_plus_17
        | dw::DW_LANG_C_plus_plus_20 => Language::Cpp,
        dw::DW_LANG_Rust => Language::Rust,
        dw::DW_LANG_Go => Language::Go,
        _ => Language::C,
    }
}
