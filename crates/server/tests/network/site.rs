//! A world with two projects, a partition and networks to start from.

use serde_json::{Value, json};
use store::Entity;

use crate::world::{Answer, World, text};

/// Who and what there is.
pub(crate) struct Site<'a> {
    pub(crate) world: &'a World,
    /// Operator.
    pub(crate) admin: String,
    /// Owner of both projects.
    pub(crate) user: String,
    pub(crate) project: String,
    pub(crate) other: String,
}

pub(crate) const CREATE: &str = "admin.v2.NetworkService/Create";

impl<'a> Site<'a> {
    /// Projects and the partitions `p1` and `p2`, no networks.
    pub(crate) fn empty(world: &'a World) -> Self {
        let user = world.login("alice");
        let tenant = world.organisation(&user, "Acme");
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            for id in ["p1", "p2"] {
                let row = Entity::new(id, json!({"id": id}).to_string(), 1);
                store::partition::TABLE.insert(&mut tx, &row, &[]).await.expect("partition");
            }
            tx.commit().await.expect("commit");
        });
        Self {
            world,
            admin: world.admin(),
            project: world.project(&user, &tenant, "one"),
            other: world.project(&user, &tenant, "two"),
            user,
        }
    }

    /// As [`Self::empty`], with a dual-stack super network of `p1`, the internet and an underlay.
    pub(crate) fn new(world: &'a World) -> Self {
        let site = Self::empty(world);
        for network in [
            json!({"id": "super", "type": "NETWORK_TYPE_SUPER", "partition": "p1",
                "prefixes": ["10.0.0.0/16", "fd00::/48"], "destinationPrefixes": ["1.2.3.0/24"],
                "defaultChildPrefixLength": {"ipv4": 22, "ipv6": 64},
                "minChildPrefixLength": {"ipv4": 20}}),
            json!({"id": "internet", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 104,
                "prefixes": ["212.34.83.0/29", "2001:db8::/64"],
                "destinationPrefixes": ["0.0.0.0/0", "::/0"], "natType": "NAT_TYPE_IPV4_MASQUERADE"}),
            json!({"id": "underlay", "type": "NETWORK_TYPE_UNDERLAY", "partition": "p1",
                "prefixes": ["10.253.0.0/24"]}),
        ] {
            site.make(network);
        }
        site
    }

    /// Makes a network as an operator.
    #[track_caller]
    pub(crate) fn make(&self, network: Value) -> Value {
        self.world.ok(&self.admin, CREATE, network)["network"].clone()
    }

    /// Asserts with which code an operator's network is refused, and returns the sentence.
    #[track_caller]
    pub(crate) fn refused(&self, code: &str, network: Value) -> String {
        let shown = network.to_string();
        match self.world.call(&self.admin, CREATE, network) {
            Err((got, sentence)) => {
                assert_eq!(got, code, "{shown}: {sentence}");
                sentence
            }
            Ok(network) => panic!("{shown} was made: {network}"),
        }
    }

    /// A private network of the project, made by its user from the super network of the partition.
    #[track_caller]
    pub(crate) fn private(&self, fields: Value) -> Value {
        self.try_private(fields).expect("a network")["network"].clone()
    }

    pub(crate) fn try_private(&self, fields: Value) -> Answer {
        let mut request = json!({"project": self.project});
        if fields.get("parentNetwork").is_none() {
            request["partition"] = "p1".into();
        }
        merge(&mut request, fields);
        self.world.call(&self.user, "api.v2.NetworkService/Create", request)
    }

    /// Takes an address for the project.
    #[track_caller]
    pub(crate) fn ip(&self, network: &str, fields: Value) -> Value {
        self.try_ip(network, fields).expect("an ip")["ip"].clone()
    }

    pub(crate) fn try_ip(&self, network: &str, fields: Value) -> Answer {
        let mut request = json!({"project": self.project, "network": network});
        merge(&mut request, fields);
        self.world.call(&self.user, "api.v2.IPService/Create", request)
    }

    /// Deletes a network as an operator.
    pub(crate) fn delete(&self, id: &str) -> Answer {
        self.world.call(&self.admin, "admin.v2.NetworkService/Delete", json!({"id": id}))
    }

    /// A network as an operator sees it.
    #[track_caller]
    pub(crate) fn get(&self, id: &str) -> Value {
        let request = json!({"id": id});
        self.world.ok(&self.admin, "admin.v2.NetworkService/Get", request)["network"].clone()
    }

    /// Ids of the networks that an operator finds by a query.
    #[track_caller]
    pub(crate) fn found(&self, query: Value) -> String {
        let request = json!({"query": query});
        let found = self.world.ok(&self.admin, "admin.v2.NetworkService/List", request);
        crate::world::column(&found["networks"], "id")
    }

    /// Stores a machine of the project.
    pub(crate) fn machine(&self, id: &str) {
        self.world.runtime.block_on(async {
            let mut tx = self.world.db.begin_write().await.expect("begin");
            let row = Entity::new(id, "{}".to_owned(), 1);
            let project = self.project.as_str();
            let none = store::Value::OptText(None);
            let columns = ["p1".into(), "r1".into(), "".into(), project.into(), none, 0_i64.into()];
            store::machine::TABLE.insert(&mut tx, &row, &columns).await.expect("machine");
            tx.commit().await.expect("commit");
        });
    }
}

/// Sets the fields of one object in another.
pub(crate) fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { return };
    for (name, value) in fields {
        into[name] = value;
    }
}

/// What an update says about the state that it was made of.
pub(crate) fn seen(entity: &Value) -> Value {
    json!({"updatedAt": entity["meta"]["updatedAt"]})
}

/// Id of a network.
pub(crate) fn id(network: &Value) -> String {
    text(&network["id"])
}
