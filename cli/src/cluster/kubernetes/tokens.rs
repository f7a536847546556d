//! The tokens of machines behind an API server.

use hatrack_api::enrollment::TOKEN_NODE_LABEL;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};

use super::{Error, Kubernetes, PERSON, failed};
use crate::cluster::token::{NAMESPACE, NewToken, Token};

impl Kubernetes {
    fn token_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The tokens of all machines, sorted by machine and id.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let params = ListParams::default().labels(TOKEN_NODE_LABEL);
        let secrets = self.token_secrets().list(&params).await.map_err(failed("list the tokens"))?;
        let mut tokens: Vec<Token> = secrets.iter().map(Token::of).collect();
        tokens.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
        Ok(tokens)
    }

    /// Makes a token known to the API server.
    pub async fn add_token(&self, new: &NewToken) -> Result<(), Error> {
        let params = PostParams { field_manager: Some(PERSON.to_owned()), ..PostParams::default() };
        self.token_secrets().create(&params, &new.object()).await.map(drop).map_err(failed("make the token"))
    }

    /// Takes a token back. One that is gone already is what was wanted.
    pub async fn remove_token(&self, token: &Token) -> Result<(), Error> {
        let (secrets, name) = (self.token_secrets(), token.secret_name());
        super::upkeep::delete(&secrets, &name, &DeleteParams::default(), "take the token back").await.map(drop)
    }
}
