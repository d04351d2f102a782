// This file was generated with `clorinde`. Do not modify.

#[derive(Debug)]
pub struct AddGoodsParams<T1: crate::StringSql> {
    pub name: T1,
    pub pieces: i64,
}
#[derive(Debug)]
pub struct TakeGoodsParams<T1: crate::StringSql> {
    pub taken: i64,
    pub name: T1,
}
#[derive(Debug, Clone, PartialEq)]
pub struct GoodsByName {
    pub id: i64,
    pub name: String,
    pub pieces: i64,
    pub tags: Vec<String>,
}
pub struct GoodsByNameBorrowed<'a> {
    pub id: i64,
    pub name: &'a str,
    pub pieces: i64,
    pub tags: crate::ArrayIterator<'a, &'a str>,
}
impl<'a> From<GoodsByNameBorrowed<'a>> for GoodsByName {
    fn from(
        GoodsByNameBorrowed {
            id,
            name,
            pieces,
            tags,
        }: GoodsByNameBorrowed<'a>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            pieces,
            tags: tags.map(|v| v.into()).collect(),
        }
    }
}
#[derive(Debug, Clone, PartialEq)]
pub struct AllGoods {
    pub id: i64,
    pub name: String,
    pub pieces: i64,
    pub tags: Vec<String>,
}
pub struct AllGoodsBorrowed<'a> {
    pub id: i64,
    pub name: &'a str,
    pub pieces: i64,
    pub tags: crate::ArrayIterator<'a, &'a str>,
}
impl<'a> From<AllGoodsBorrowed<'a>> for AllGoods {
    fn from(
        AllGoodsBorrowed {
            id,
            name,
            pieces,
            tags,
        }: AllGoodsBorrowed<'a>,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            pieces,
            tags: tags.map(|v| v.into()).collect(),
        }
    }
}
use crate::client::async_::GenericClient;
use futures::{self, StreamExt, TryStreamExt};
pub struct GoodsByNameQuery<'c, 'a, 's, C: GenericClient, T, const N: usize> {
    client: &'c C,
    params: [&'a (dyn postgres_types::ToSql + Sync); N],
    query: &'static str,
    cached: Option<&'s tokio_postgres::Statement>,
    extractor: fn(&tokio_postgres::Row) -> Result<GoodsByNameBorrowed, tokio_postgres::Error>,
    mapper: fn(GoodsByNameBorrowed) -> T,
}
impl<'c, 'a, 's, C, T: 'c, const N: usize> GoodsByNameQuery<'c, 'a, 's, C, T, N>
where
    C: GenericClient,
{
    pub fn map<R>(
        self,
        mapper: fn(GoodsByNameBorrowed) -> R,
    ) -> GoodsByNameQuery<'c, 'a, 's, C, R, N> {
        GoodsByNameQuery {
            client: self.client,
            params: self.params,
            query: self.query,
            cached: self.cached,
            extractor: self.extractor,
            mapper,
        }
    }
    pub async fn one(self) -> Result<T, tokio_postgres::Error> {
        let row =
            crate::client::async_::one(self.client, self.query, &self.params, self.cached).await?;
        Ok((self.mapper)((self.extractor)(&row)?))
    }
    pub async fn all(self) -> Result<Vec<T>, tokio_postgres::Error> {
        self.iter().await?.try_collect().await
    }
    pub async fn opt(self) -> Result<Option<T>, tokio_postgres::Error> {
        let opt_row =
            crate::client::async_::opt(self.client, self.query, &self.params, self.cached).await?;
        Ok(opt_row
            .map(|row| {
                let extracted = (self.extractor)(&row)?;
                Ok((self.mapper)(extracted))
            })
            .transpose()?)
    }
    pub async fn iter(
        self,
    ) -> Result<
        impl futures::Stream<Item = Result<T, tokio_postgres::Error>> + 'c,
        tokio_postgres::Error,
    > {
        let stream = crate::client::async_::raw(
            self.client,
            self.query,
            crate::slice_iter(&self.params),
            self.cached,
        )
        .await?;
        let mapped = stream
            .map(move |res| {
                res.and_then(|row| {
                    let extracted = (self.extractor)(&row)?;
                    Ok((self.mapper)(extracted))
                })
            })
            .into_stream();
        Ok(mapped)
    }
}
pub struct AllGoodsQuery<'c, 'a, 's, C: GenericClient, T, const N: usize> {
    client: &'c C,
    params: [&'a (dyn postgres_types::ToSql + Sync); N],
    query: &'static str,
    cached: Option<&'s tokio_postgres::Statement>,
    extractor: fn(&tokio_postgres::Row) -> Result<AllGoodsBorrowed, tokio_postgres::Error>,
    mapper: fn(AllGoodsBorrowed) -> T,
}
impl<'c, 'a, 's, C, T: 'c, const N: usize> AllGoodsQuery<'c, 'a, 's, C, T, N>
where
    C: GenericClient,
{
    pub fn map<R>(self, mapper: fn(AllGoodsBorrowed) -> R) -> AllGoodsQuery<'c, 'a, 's, C, R, N> {
        AllGoodsQuery {
            client: self.client,
            params: self.params,
            query: self.query,
            cached: self.cached,
            extractor: self.extractor,
            mapper,
        }
    }
    pub async fn one(self) -> Result<T, tokio_postgres::Error> {
        let row =
            crate::client::async_::one(self.client, self.query, &self.params, self.cached).await?;
        Ok((self.mapper)((self.extractor)(&row)?))
    }
    pub async fn all(self) -> Result<Vec<T>, tokio_postgres::Error> {
        self.iter().await?.try_collect().await
    }
    pub async fn opt(self) -> Result<Option<T>, tokio_postgres::Error> {
        let opt_row =
            crate::client::async_::opt(self.client, self.query, &self.params, self.cached).await?;
        Ok(opt_row
            .map(|row| {
                let extracted = (self.extractor)(&row)?;
                Ok((self.mapper)(extracted))
            })
            .transpose()?)
    }
    pub async fn iter(
        self,
    ) -> Result<
        impl futures::Stream<Item = Result<T, tokio_postgres::Error>> + 'c,
        tokio_postgres::Error,
    > {
        let stream = crate::client::async_::raw(
            self.client,
            self.query,
            crate::slice_iter(&self.params),
            self.cached,
        )
        .await?;
        let mapped = stream
            .map(move |res| {
                res.and_then(|row| {
                    let extracted = (self.extractor)(&row)?;
                    Ok((self.mapper)(extracted))
                })
            })
            .into_stream();
        Ok(mapped)
    }
}
pub struct I64Query<'c, 'a, 's, C: GenericClient, T, const N: usize> {
    client: &'c C,
    params: [&'a (dyn postgres_types::ToSql + Sync); N],
    query: &'static str,
    cached: Option<&'s tokio_postgres::Statement>,
    extractor: fn(&tokio_postgres::Row) -> Result<i64, tokio_postgres::Error>,
    mapper: fn(i64) -> T,
}
impl<'c, 'a, 's, C, T: 'c, const N: usize> I64Query<'c, 'a, 's, C, T, N>
where
    C: GenericClient,
{
    pub fn map<R>(self, mapper: fn(i64) -> R) -> I64Query<'c, 'a, 's, C, R, N> {
        I64Query {
            client: self.client,
            params: self.params,
            query: self.query,
            cached: self.cached,
            extractor: self.extractor,
            mapper,
        }
    }
    pub async fn one(self) -> Result<T, tokio_postgres::Error> {
        let row =
            crate::client::async_::one(self.client, self.query, &self.params, self.cached).await?;
        Ok((self.mapper)((self.extractor)(&row)?))
    }
    pub async fn all(self) -> Result<Vec<T>, tokio_postgres::Error> {
        self.iter().await?.try_collect().await
    }
    pub async fn opt(self) -> Result<Option<T>, tokio_postgres::Error> {
        let opt_row =
            crate::client::async_::opt(self.client, self.query, &self.params, self.cached).await?;
        Ok(opt_row
            .map(|row| {
                let extracted = (self.extractor)(&row)?;
                Ok((self.mapper)(extracted))
            })
            .transpose()?)
    }
    pub async fn iter(
        self,
    ) -> Result<
        impl futures::Stream<Item = Result<T, tokio_postgres::Error>> + 'c,
        tokio_postgres::Error,
    > {
        let stream = crate::client::async_::raw(
            self.client,
            self.query,
            crate::slice_iter(&self.params),
            self.cached,
        )
        .await?;
        let mapped = stream
            .map(move |res| {
                res.and_then(|row| {
                    let extracted = (self.extractor)(&row)?;
                    Ok((self.mapper)(extracted))
                })
            })
            .into_stream();
        Ok(mapped)
    }
}
pub struct AddGoodsStmt(&'static str, Option<tokio_postgres::Statement>);
pub fn add_goods() -> AddGoodsStmt {
    AddGoodsStmt("INSERT INTO goods (name, pieces) VALUES ($1, $2)", None)
}
impl AddGoodsStmt {
    pub async fn prepare<'a, C: GenericClient>(
        mut self,
        client: &'a C,
    ) -> Result<Self, tokio_postgres::Error> {
        self.1 = Some(client.prepare(self.0).await?);
        Ok(self)
    }
    pub async fn bind<'c, 'a, 's, C: GenericClient, T1: crate::StringSql>(
        &'s self,
        client: &'c C,
        name: &'a T1,
        pieces: &'a i64,
    ) -> Result<u64, tokio_postgres::Error> {
        client.execute(self.0, &[name, pieces]).await
    }
}
impl<'a, C: GenericClient + Send + Sync, T1: crate::StringSql>
    crate::client::async_::Params<
        'a,
        'a,
        'a,
        AddGoodsParams<T1>,
        std::pin::Pin<
            Box<dyn futures::Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>,
        >,
        C,
    > for AddGoodsStmt
{
    fn params(
        &'a self,
        client: &'a C,
        params: &'a AddGoodsParams<T1>,
    ) -> std::pin::Pin<
        Box<dyn futures::Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>,
    > {
        Box::pin(self.bind(client, &params.name, &params.pieces))
    }
}
pub struct GoodsByNameStmt(&'static str, Option<tokio_postgres::Statement>);
pub fn goods_by_name() -> GoodsByNameStmt {
    GoodsByNameStmt(
        "SELECT id, name, pieces, tags FROM goods WHERE name = $1",
        None,
    )
}
impl GoodsByNameStmt {
    pub async fn prepare<'a, C: GenericClient>(
        mut self,
        client: &'a C,
    ) -> Result<Self, tokio_postgres::Error> {
        self.1 = Some(client.prepare(self.0).await?);
        Ok(self)
    }
    pub fn bind<'c, 'a, 's, C: GenericClient, T1: crate::StringSql>(
        &'s self,
        client: &'c C,
        name: &'a T1,
    ) -> GoodsByNameQuery<'c, 'a, 's, C, GoodsByName, 1> {
        GoodsByNameQuery {
            client,
            params: [name],
            query: self.0,
            cached: self.1.as_ref(),
            extractor:
                |row: &tokio_postgres::Row| -> Result<GoodsByNameBorrowed, tokio_postgres::Error> {
                    Ok(GoodsByNameBorrowed {
                        id: row.try_get(0)?,
                        name: row.try_get(1)?,
                        pieces: row.try_get(2)?,
                        tags: row.try_get(3)?,
                    })
                },
            mapper: |it| GoodsByName::from(it),
        }
    }
}
pub struct AllGoodsStmt(&'static str, Option<tokio_postgres::Statement>);
pub fn all_goods() -> AllGoodsStmt {
    AllGoodsStmt(
        "SELECT id, name, pieces, tags FROM goods ORDER BY name",
        None,
    )
}
impl AllGoodsStmt {
    pub async fn prepare<'a, C: GenericClient>(
        mut self,
        client: &'a C,
    ) -> Result<Self, tokio_postgres::Error> {
        self.1 = Some(client.prepare(self.0).await?);
        Ok(self)
    }
    pub fn bind<'c, 'a, 's, C: GenericClient>(
        &'s self,
        client: &'c C,
    ) -> AllGoodsQuery<'c, 'a, 's, C, AllGoods, 0> {
        AllGoodsQuery {
            client,
            params: [],
            query: self.0,
            cached: self.1.as_ref(),
            extractor:
                |row: &tokio_postgres::Row| -> Result<AllGoodsBorrowed, tokio_postgres::Error> {
                    Ok(AllGoodsBorrowed {
                        id: row.try_get(0)?,
                        name: row.try_get(1)?,
                        pieces: row.try_get(2)?,
                        tags: row.try_get(3)?,
                    })
                },
            mapper: |it| AllGoods::from(it),
        }
    }
}
pub struct TakeGoodsStmt(&'static str, Option<tokio_postgres::Statement>);
pub fn take_goods() -> TakeGoodsStmt {
    TakeGoodsStmt(
        "UPDATE goods SET pieces = pieces - $1 WHERE name = $2 RETURNING pieces",
        None,
    )
}
impl TakeGoodsStmt {
    pub async fn prepare<'a, C: GenericClient>(
        mut self,
        client: &'a C,
    ) -> Result<Self, tokio_postgres::Error> {
        self.1 = Some(client.prepare(self.0).await?);
        Ok(self)
    }
    pub fn bind<'c, 'a, 's, C: GenericClient, T1: crate::StringSql>(
        &'s self,
        client: &'c C,
        taken: &'a i64,
        name: &'a T1,
    ) -> I64Query<'c, 'a, 's, C, i64, 2> {
        I64Query {
            client,
            params: [taken, name],
            query: self.0,
            cached: self.1.as_ref(),
            extractor: |row| Ok(row.try_get(0)?),
            mapper: |it| it,
        }
    }
}
impl<'c, 'a, 's, C: GenericClient, T1: crate::StringSql>
    crate::client::async_::Params<
        'c,
        'a,
        's,
        TakeGoodsParams<T1>,
        I64Query<'c, 'a, 's, C, i64, 2>,
        C,
    > for TakeGoodsStmt
{
    fn params(
        &'s self,
        client: &'c C,
        params: &'a TakeGoodsParams<T1>,
    ) -> I64Query<'c, 'a, 's, C, i64, 2> {
        self.bind(client, &params.taken, &params.name)
    }
}
