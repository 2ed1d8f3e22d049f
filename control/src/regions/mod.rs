//! Regions: their registration, what operators decide about them ([`admission`]), and the ids that control leases to
//! them.

pub(crate) mod admission;
pub mod ids;
mod lost_leases;

use std::sync::Arc;

use causeway_audit::Subject;
use causeway_proto::limits::{MAX_ADDRESS_BYTES, MAX_PRODUCT_NAME_BYTES};
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
    model::region::{
        AcceptRegions, Caller, HeldIds, IdBlock, IdConflict, KnownRegion, MAX_COUNTER_FROM_IDS_IN_USE,
        MAX_LEASE, Region,
    },
    store::{
        self,
        id_lease::Lease,
        region::{Registered, Registering},
    },
    validate,
};

/// The use cases of regions and ids. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Regions {
    db: Db,
    env: Environment,
    catalog: Arc<Catalog>,
    accept: AcceptRegions,
}

/// A registration as a region asks for it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The name of the region.
    pub name: String,
    /// The URL at which its users reach it.
    pub address: String,
    /// The id of its database.
    pub instance_id: Uuid,
    /// What the product calls it; empty if that is its name.
    pub product_name: String,
    /// Which ids its tables have, for each model with leased ids that it reports.
    pub held_ids: Vec<HeldIds>,
}

/// Returns `name` if it is a valid name of a region.
fn valid_name<'a>(field: &str, name: &'a str) -> Result<&'a str, Error> {
    if region_name::is_valid(name) {
        return Ok(name);
    }
    Err(Error::invalid(field, format!("must be {}", region_name::RULE)))
}

fn is_valid_address(address: &str) -> bool {
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    address.len() <= MAX_ADDRESS_BYTES
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

async fn known(db: &Db, field: &str, name: &str) -> Result<KnownRegion, Error> {
    let name = valid_name(field, name)?;
    store::region::get(db, name).await?.ok_or_else(|| Error::RegionNotRegistered { region: name.to_owned() })
}

/// Reads a region, which must have registered. Every call about a region that only reads begins with this check.
pub(crate) async fn registered(db: &Db, field: &str, name: &str) -> Result<Region, Error> {
    let KnownRegion { name, registered, .. } = known(db, field, name).await?;
    registered.ok_or(Error::RegionNotRegistered { region: name })
}

/// Reads a region, which must have registered and not be suspended. Every call that writes for a region begins with
/// this check, and its transactions check again ([`admission`]).
pub(crate) async fn writing(db: &Db, field: &str, name: &str) -> Result<Region, Error> {
    let KnownRegion { name, suspension, registered, .. } = known(db, field, name).await?;
    match (registered, suspension) {
        (None, _) => Err(Error::RegionNotRegistered { region: name }),
        (Some(_), Some(suspension)) => Err(Error::RegionSuspended { region: name, suspension }),
        (Some(region), None) => Ok(region),
    }
}

#[derive(Debug, Clone, Copy)]
struct LeaseRequest<'a> {
    region: &'a str,
    operation_id: Uuid,
    model: &'a str,
    count: i64,
    above: i64,
}

/// The lease of an operation, or a new one if there is none. An existing lease may be of another model or size: the
/// caller compares it.
async fn lease(tx: &mut Tx, wanted: LeaseRequest<'_>, now: DateTime<Utc>) -> Result<Lease, Error> {
    let LeaseRequest { region, operation_id, model, count, above } = wanted;
    admission::may_write(tx, region).await?;
    // A call that is repeated later needs no lock: it finds its lease here.
    if let Some(lease) = store::id_lease::get(tx, region, operation_id).await? {
        return Ok(lease);
    }
    let counter = store::id_lease::lock_counter(tx, model).await?;
    // A call that is repeated at the same time has waited for the first one at the counter, and finds its lease here.
    if let Some(lease) = store::id_lease::get(tx, region, operation_id).await? {
        return Ok(lease);
    }
    let counter = if above <= MAX_COUNTER_FROM_IDS_IN_USE { counter.max(above) } else { counter };
    let Some(first_id) = ids::free_block(tx, model, counter, count).await? else {
        return Err(Error::IdSpaceExhausted { model: model.to_owned() });
    };
    let lease = Lease { model: model.to_owned(), first_id, count };
    store::id_lease::move_counter(tx, model, first_id + count - 1).await?;
    if !store::id_lease::insert(tx, region, operation_id, &lease, now).await? {
        // The lease was not there before, so it is for another model, which has another counter.
        return Err(Error::OperationContentDiffers { operation_id });
    }
    causeway_audit::append(tx, &Subject::region(region).with_operation(operation_id), now).await?;
    Ok(lease)
}

impl Regions {
    /// The models whose ids are leased, by name.
    pub(crate) fn models_with_leased_ids(&self) -> Vec<String> {
        let leased = self.catalog.models().iter().filter(|model| model.leases_ids());
        leased.map(|model| model.name.clone()).collect()
    }

    pub(crate) fn new(db: Db, env: Environment, catalog: Arc<Catalog>, accept: AcceptRegions) -> Self {
        Self { db, env, catalog, accept }
    }

    /// Registers a region for a caller without an identity that reports no ids. See [`Regions::register_with_ids`].
    ///
    /// # Errors
    /// The same.
    pub async fn register(&self, name: &str, address: &str, instance_id: Uuid) -> Result<Region, Error> {
        let registration = Registration {
            name: name.to_owned(),
            address: address.to_owned(),
            instance_id,
            product_name: String::new(),
            held_ids: Vec::new(),
        };
        let (region, _) = self.register_with_ids(registration, &Caller::default()).await?;
        region.registered.ok_or_else(|| Error::RegionNotRegistered { region: name.to_owned() })
    }

    /// Registers a region, or updates its address, and stores what the product calls it (its own name if
    /// empty) and which ids its tables have. Returns it with the ids that another region also has, or may
    /// give out.
    ///
    /// # Errors
    /// If a name, the address or a range is malformed, nobody has added the region and control does not
    /// accept unknown regions, the region is suspended, another region database has the name, or the address
    /// changes and another identity has registered before.
    pub async fn register_with_ids(
        &self,
        registration: Registration,
        caller: &Caller,
    ) -> Result<(KnownRegion, Vec<IdConflict>), Error> {
        let Registration { name, address, instance_id, product_name, mut held_ids } = registration;
        let subject = causeway_audit::about(Subject::region(&name));
        let name = valid_name("name", &name)?;
        if !is_valid_address(&address) {
            return Err(Error::invalid(
                "address",
                format!(
                    "must be a URL that begins with http:// or https://, of at most {MAX_ADDRESS_BYTES} bytes"
                ),
            ));
        }
        validate::text(|| "product_name".to_owned(), &product_name, MAX_PRODUCT_NAME_BYTES)?;
        for (index, ids_of_model) in held_ids.iter_mut().enumerate() {
            let Some(model) = self.catalog.model(&ids_of_model.model).filter(|model| model.leases_ids())
            else {
                let field = format!("held_ids[{index}].model");
                return Err(Error::invalid(field, "is not one whose ids are leased"));
            };
            ids_of_model.model.clone_from(&model.name);
            ids::check(index, ids_of_model)?;
        }
        // Every registration locks the counters in the same order.
        held_ids.sort_by(|one, other| one.model.cmp(&other.model));
        if held_ids.windows(2).any(|pair| pair[0].model == pair[1].model) {
            return Err(Error::invalid("held_ids", "names a model twice"));
        }
        let now = self.env.now();
        let registering =
            Registering { name, address: &address, instance_id, product_name: &product_name, caller };
        transact!(Error, self.db, |tx| {
            admission::admit(tx, name, self.accept, caller, now).await?;
            match store::region::register(tx, registering, now).await? {
                Registered::Done { changed: true } => {
                    causeway_audit::append(tx, &subject, now).await?;
                }
                Registered::Done { changed: false } => {}
                Registered::OtherDatabase => {
                    return Err(Error::RegionNameTaken { region: name.to_owned() });
                }
                Registered::OtherIdentity(identity) => {
                    return Err(Error::RegionIdentityDiffers { region: name.to_owned(), identity });
                }
            }
            store::feed::begin(tx, name).await?;
            let mut conflicts = Vec::new();
            for ids_of_model in &held_ids {
                conflicts.extend(ids::store_held_ids(tx, name, ids_of_model).await?);
                lost_leases::put_back(tx, &self.env, name, ids_of_model).await?;
            }
            let region = store::region::get_in(tx, name).await?;
            (region.ok_or_else(|| Error::RegionNotFound { region: name.to_owned() })?, conflicts)
        })
    }

    /// The ids in a region's tables that other regions also have, or may give out, as of its last registration.
    ///
    /// # Errors
    /// If there is no region of that name.
    pub async fn id_conflicts(&self, name: &str) -> Result<Vec<IdConflict>, Error> {
        let name = self.get(name).await?.name;
        Ok(store::region_ids::conflicts(&self.db, &name).await?)
    }

    /// Lets another database take over the name of a region at its next registration: the database with this instance
    /// id, or if `None`, the first one that registers. It may have another identity. All that control stores for the
    /// region stays: reservations, directory entries, leases.
    ///
    /// # Errors
    /// If there is no region of that name, or it has never registered.
    pub async fn take_over(&self, name: &str, instance_id: Option<Uuid>) -> Result<KnownRegion, Error> {
        let subject = causeway_audit::about(Subject::region(name));
        let region = self.get(name).await?;
        let name = region.name.as_str();
        let allowed = transact!(Error, self.db, |tx| {
            let allowed = store::region::allow_take_over(tx, name, instance_id).await?;
            if allowed {
                causeway_audit::append(tx, &subject, self.env.now()).await?;
            }
            allowed
        })?;
        match allowed {
            true => Ok(region),
            false => Err(Error::RegionNotRegistered { region: region.name }),
        }
    }

    /// Reads one region.
    ///
    /// # Errors
    /// If there is no region of that name.
    pub async fn get(&self, name: &str) -> Result<KnownRegion, Error> {
        let name = valid_name("name", name)?;
        store::region::get(&self.db, name)
            .await?
            .ok_or_else(|| Error::RegionNotFound { region: name.to_owned() })
    }

    /// A page of regions, sorted by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self, request: &PageRequest<String>) -> Result<Page<KnownRegion, String>, Error> {
        let regions = store::region::list(&self.db, request.after.as_deref(), request.rows()).await?;
        Ok(Page::cut(regions, request, |region| region.name.clone()))
    }

    /// The URL under which users reach a region.
    ///
    /// # Errors
    /// If it has not registered.
    pub async fn region_address(&self, region: &str) -> Result<String, Error> {
        Ok(registered(&self.db, "region", region).await?.address)
    }

    /// Leases a block of ids to a region. No other region has or will get one of them. All are above `above`, unless
    /// that is above [`MAX_COUNTER_FROM_IDS_IN_USE`]: one absurd id must not use up the ids of all. The same operation again returns the
    /// same ids.
    ///
    /// # Errors
    /// If the region has not registered or is suspended, the model has no leased ids, `count` or `above` is out of
    /// bounds, the operation was used with other content, or the ids are used up.
    pub async fn lease_ids(
        &self,
        region: &str,
        operation_id: Uuid,
        model: &str,
        count: i64,
        above: i64,
    ) -> Result<IdBlock, Error> {
        causeway_audit::about(Subject::region(region).with_operation(operation_id));
        // The catalog finds a model in upper or lower case. The counter needs one name: two names would lease ids
        // twice.
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
        let region = writing(&self.db, "region", region).await?.name;
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
        let too_long = format!("http://{}", "a".repeat(MAX_ADDRESS_BYTES));
        for address in ["", "http://", "https:///path", "us.example.com", "ftp://x", "http://a b", &too_long]
        {
            assert!(!is_valid_address(address), "{address}");
        }
    }
}
