//! Which regions there are, and which ids each of them may give out.

pub mod ids;

use std::sync::Arc;

use causeway_relocation::catalog::Catalog;
use causeway_silo::{
    db::{Db, Tx},
    env::Environment,
    region_name, transact,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Error, Page, PageRequest,
    model::region::{FOLLOWED, HeldIds, IdBlock, IdConflict, MAX_LEASE, Region},
    store::{self, id_lease::Lease},
};

/// The longest address of a region.
const MAX_ADDRESS: usize = 2048;

/// The use cases of regions and ids. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Regions {
    db: Db,
    env: Environment,
    catalog: Arc<Catalog>,
}

/// `name`, if it can be a region's.
fn valid_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    if region_name::is_valid(name) {
        return Ok(name);
    }
    Err(Error::invalid(field, format!("must be {}", region_name::RULE)))
}

fn is_valid_address(address: &str) -> bool {
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    address.len() <= MAX_ADDRESS
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A region that must have registered. Every call that a region makes begins with this.
pub(crate) async fn registered(db: &Db, field: &str, name: &str) -> Result<Region, Error> {
    let name = valid_name(field, name)?;
    store::region::get(db, name).await?.ok_or_else(|| Error::RegionNotRegistered { region: name.to_owned() })
}

#[derive(Debug, Clone, Copy)]
struct LeaseRequest<'a> {
    region: &'a str,
    operation_id: Uuid,
    model: &'a str,
    count: i64,
    above: i64,
}

/// The lease of an operation, whatever it is for; a new one if there is none.
async fn lease(tx: &mut Tx, wanted: LeaseRequest<'_>, now: DateTime<Utc>) -> Result<Lease, Error> {
    let LeaseRequest { region, operation_id, model, count, above } = wanted;
    // A call that is repeated later needs no lock.
    if let Some(lease) = store::id_lease::get(tx, region, operation_id).await? {
        return Ok(lease);
    }
    let counter = store::id_lease::lock_counter(tx, model).await?;
    // One that is repeated at once waited for the first one at the counter, and finds the lease behind it.
    if let Some(lease) = store::id_lease::get(tx, region, operation_id).await? {
        return Ok(lease);
    }
    let counter = if above <= FOLLOWED { counter.max(above) } else { counter };
    let Some(first_id) = ids::free_block(tx, model, counter, count).await? else {
        return Err(Error::IdSpaceExhausted { model: model.to_owned() });
    };
    let lease = Lease { model: model.to_owned(), first_id, count };
    store::id_lease::move_counter(tx, model, first_id + count - 1).await?;
    if !store::id_lease::insert(tx, region, operation_id, &lease, now).await? {
        // It is there now and was not before: it is for another model, which has another counter.
        return Err(Error::OperationContentDiffers { operation_id });
    }
    Ok(lease)
}

impl Regions {
    pub(crate) fn new(db: Db, env: Environment, catalog: Arc<Catalog>) -> Self {
        Self { db, env, catalog }
    }

    /// Makes a region known that holds no ids of leased models, or says nothing of them. See
    /// [`Regions::register_with_ids`].
    ///
    /// # Errors
    /// As there.
    pub async fn register(&self, name: &str, address: &str, instance_id: Uuid) -> Result<Region, Error> {
        Ok(self.register_with_ids(name, address, instance_id, Vec::new()).await?.0)
    }

    /// Makes a region known, or renews its address, and takes in which ids its tables hold. Answers those that are not its
    /// own: another region holds them too, or may give them out.
    ///
    /// # Errors
    /// If the name, the address or a range is malformed, or another region database has the name.
    pub async fn register_with_ids(
        &self,
        name: &str,
        address: &str,
        instance_id: Uuid,
        mut held: Vec<HeldIds>,
    ) -> Result<(Region, Vec<IdConflict>), Error> {
        let name = valid_name("name", name)?;
        if !is_valid_address(address) {
            return Err(Error::invalid(
                "address",
                "must be a URL that begins with http:// or https://, of at most 2048 characters",
            ));
        }
        for (index, held) in held.iter_mut().enumerate() {
            let Some(model) = self.catalog.model(&held.model).filter(|model| model.leases_ids()) else {
                let field = format!("held_ids[{index}].model");
                return Err(Error::invalid(field, "is not one whose ids are leased"));
            };
            held.model.clone_from(&model.name);
            ids::check(index, held)?;
        }
        // Counters are locked in one order.
        held.sort_by(|one, other| one.model.cmp(&other.model));
        if held.windows(2).any(|pair| pair[0].model == pair[1].model) {
            return Err(Error::invalid("held_ids", "a model stands twice in it"));
        }
        let now = self.env.now();
        transact!(Error, self.db, |tx| {
            let region = store::region::upsert(tx, name, address, instance_id, now).await?;
            let region = region.ok_or_else(|| Error::RegionNameTaken { region: name.to_owned() })?;
            store::feed::begin(tx, name).await?;
            let mut conflicts = Vec::new();
            for held in &held {
                conflicts.extend(ids::take_in(tx, name, held).await?);
            }
            (region, conflicts)
        })
    }

    /// The ids that a region holds and others too, or may give out, as it was when it registered last.
    ///
    /// # Errors
    /// If there is no region of that name.
    pub async fn id_conflicts(&self, name: &str) -> Result<Vec<IdConflict>, Error> {
        let name = self.get(name).await?.name;
        Ok(store::region_ids::conflicts(&self.db, &name).await?)
    }

    /// Lets another database have the name of a region at its next registration: that of this instance id, or whichever
    /// registers first. All that is held for the region stays: reservations, places in the directory, leases.
    ///
    /// # Errors
    /// If there is no region of that name.
    pub async fn take_over(&self, name: &str, instance_id: Option<Uuid>) -> Result<Region, Error> {
        let name = valid_name("name", name)?;
        let region =
            transact!(Error, self.db, |tx| { store::region::allow_take_over(tx, name, instance_id).await? })?;
        region.ok_or_else(|| Error::RegionNotFound { region: name.to_owned() })
    }

    /// One region.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn get(&self, name: &str) -> Result<Region, Error> {
        let name = valid_name("name", name)?;
        store::region::get(&self.db, name)
            .await?
            .ok_or_else(|| Error::RegionNotFound { region: name.to_owned() })
    }

    /// Regions by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self, request: &PageRequest<String>) -> Result<Page<Region, String>, Error> {
        let regions = store::region::list(&self.db, request.after.as_deref(), request.rows()).await?;
        Ok(Page::cut(regions, request, |region| region.name.clone()))
    }

    /// Where the users of a region reach it.
    ///
    /// # Errors
    /// If it has not registered.
    pub async fn region_address(&self, region: &str) -> Result<String, Error> {
        Ok(registered(&self.db, "region", region).await?.address)
    }

    /// Gives a region ids that nobody else has or will get, all of them above `above` unless that is above [`FOLLOWED`]:
    /// one absurd id is not to use up those of all. The same operation again gives the same ids.
    ///
    /// # Errors
    /// If the region has not registered, the model has no leased ids, `count` or `above` is out of bounds, the operation
    /// was used for something else, or the ids are used up.
    pub async fn lease_ids(
        &self,
        region: &str,
        operation_id: Uuid,
        model: &str,
        count: i64,
        above: i64,
    ) -> Result<IdBlock, Error> {
        // The catalog knows a model in any case. Its counter goes by one name only: two would give ids twice.
        let Some(model) = self.catalog.model(model).filter(|model| model.leases_ids()) else {
            return Err(Error::invalid("model", "is not one whose ids are leased"));
        };
        let model = model.name.as_str();
        if !(1..=MAX_LEASE).contains(&count) {
            return Err(Error::invalid("count", "must be 1 to 1,000,000"));
        }
        if above < 0 {
            return Err(Error::invalid("above", "must not be negative"));
        }
        let region = registered(&self.db, "region", region).await?.name;
        let now = self.env.now();
        let wanted = LeaseRequest { region: &region, operation_id, model, count, above };
        let lease = transact!(Error, self.db, |tx| { lease(tx, wanted, now).await? })?;
        if lease.model != model || lease.count != count {
            return Err(Error::OperationContentDiffers { operation_id });
        }
        Ok(IdBlock { first_id: lease.first_id, count: lease.count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_regions() {
        for address in ["http://127.0.0.1:7000", "https://us.example.com/app", "http://[::1]:7000"] {
            assert!(is_valid_address(address), "{address}");
        }
        let too_long = format!("http://{}", "a".repeat(MAX_ADDRESS));
        for address in ["", "http://", "https:///path", "us.example.com", "ftp://x", "http://a b", &too_long]
        {
            assert!(!is_valid_address(address), "{address}");
        }
    }
}
