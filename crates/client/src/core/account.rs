//! The device's membership of its co-op: joining it, and answering its challenges.

use kith_protocol::content::check_name;
use kith_protocol::ids::{DeviceHandle, UnixSeconds};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::member::{ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;

use super::machine::{Core, CoreError};
use super::state::Account;

impl Core {
    /// Becomes a member. Nothing is sent until the device is connected; repeating it with the same link changes nothing.
    pub fn join_coop(&mut self, now: UnixSeconds, link: &MembershipLink, name: &str) -> Result<(), CoreError> {
        self.now = now;
        check_name(name)?;
        if let Some(account) = &self.account {
            let same = account.coop_key == link.coop.key.0 && account.handle.is_none();
            if !same {
                return Err(CoreError::HasAccount(account.coop_name.clone()));
            }
        }
        let device_seed = self.account.as_ref().map_or_else(|| self.random(), |account| account.device_seed);
        self.account = Some(Account {
            coop_name: link.coop.name.to_string(),
            coop_key: link.coop.key.0,
            address: link.address.clone(),
            secure: link.secure,
            device_seed,
            invite_seed: Some(*link.invite.seed()),
            handle: None,
            device_number: 0,
            name: name.to_owned(),
            next_item: 1,
        });
        self.touch_account();
        self.finish();
        Ok(())
    }

    /// A membership that never came about is forgotten, so that another link can be tried.
    pub fn forget_failed_join(&mut self) {
        if self.account.as_ref().is_some_and(|account| account.handle.is_none()) {
            self.account = None;
            self.touch_account();
            self.finish();
        }
    }

    pub(super) fn answer_challenge(&mut self, nonce: &[u8; 32]) {
        let (Some(account), Ok(coop)) = (&self.account, self.coop()) else { return };
        let device = SecretKey::from_seed(account.device_seed);
        let key = device.public();
        let signature = device.sign(&auth_statement(&coop.name, nonce, &key));
        let frame = match (account.handle, account.invite_seed) {
            (Some(handle), _) => ToServer::Authenticate { device: DeviceHandle(handle), signature },
            (None, Some(seed)) => {
                let invite = SecretKey::from_seed(seed);
                let by_invite = invite.sign(&membership_statement(&coop.name, nonce, &key));
                ToServer::Register { invite: invite.public(), invite_signature: by_invite, device: key, device_signature: signature }
            }
            (None, None) => return,
        };
        self.sends.push(frame);
    }

    pub(super) fn registered(&mut self, device: DeviceHandle, number: u16) {
        if let Some(account) = &mut self.account {
            account.handle = Some(device.0);
            account.device_number = number;
            account.invite_seed = None;
            self.touch_account();
        }
    }
}
