//! Manifests as text: what a field says, and on which line.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a field.
    Field(String),
    /// To an element of a list.
    Element(usize),
}

/// A YAML document that knows its lines.
#[derive(Debug)]
pub struct Document(Node);

#[derive(Debug)]
enum Node {
    Leaf(Value),
    List(Vec<(u64, Node)>),
    Map(Vec<(String, u64, Node)>),
}

impl Document {
    /// Reads one document.
    pub fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        serde_saphyr::from_str(text).map(Self)
    }

    /// What it says.
    pub fn value(&self) -> Value {
        self.0.value()
    }

    /// The line of a field, or of the nearest one above it that is there.
    pub fn line(&self, path: &[Step]) -> u64 {
        let mut line = 1;
        let mut node = &self.0;
        for step in path {
            let next = match (node, step) {
                (Node::Map(entries), Step::Field(name)) => {
                    entries.iter().find(|(key, ..)| key == name).map(|(_, line, node)| (*line, node))
                }
                (Node::List(elements), Step::Element(index)) => elements.get(*index).map(|(line, node)| (*line, node)),
                _ => None,
            };
            let Some(next) = next else { break };
            (line, node) = next;
        }
        line
    }
}

impl Node {
    fn value(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(elements) => elements.iter().map(|(_, node)| node.value()).collect(),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.value())).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<Spanned<Node>>()? {
            elements.push((element.referenced.line(), element.value));
        }
        Ok(Node::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key.value, key.referenced.line(), map.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_no_yaml_is_an_error_and_what_is_says_the_same_as_without_lines(text in "[a-c:{}\\[\\]\"'&*!|>#,?\\- \n0-9.]{0,60}") {
            if let Ok(document) = Document::parse(&text) {
                let plain: Value = serde_saphyr::from_str(&text).unwrap();
                proptest::prop_assert_eq!(document.value(), plain);
            }
        }
    }

    const TEXT: &str = "kind: ClusterNode\nspec:\n  class: worker\n  list:\n  - a: 1\n  -\n    b: \"2\"\n  none:\n";

    #[test]
    fn a_document_knows_the_lines_of_its_fields() {
        let document = Document::parse(TEXT).unwrap();
        let expected =
            json!({"kind": "ClusterNode", "spec": {"class": "worker", "list": [{"a": 1}, {"b": "2"}], "none": null}});
        assert_eq!(document.value(), expected);
        let field = |name: &str| Step::Field(name.to_owned());
        let cases = [
            (vec![], 1),
            (vec![field("spec")], 2),
            (vec![field("spec"), field("class")], 3),
            (vec![field("spec"), field("absent")], 2),
            (vec![field("spec"), field("list"), Step::Element(0), field("a")], 5),
            (vec![field("spec"), field("list"), Step::Element(1), field("b")], 7),
        ];
        for (path, line) in cases {
            assert_eq!(document.line(&path), line, "{path:?}");
        }
    }
}
