//! An index of centroids and residuals, against MaxSim of the rows themselves.

use std::collections::HashSet;

use chandelier::kernels::Simd;
use chandelier::{Cpu, Error, MatrixView, MultiVectors, PlaidBuilder, PlaidSearch, PlaidSegment, maxsim};

const DIM: usize = 24;
const DOCUMENTS: usize = 400;

/// Rows around thirty points, of 1 to 12 tokens a document, all of length 1.
fn documents(seed: u64) -> MultiVectors {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    let points: Vec<Vec<f32>> = (0..30).map(|_| (0..DIM).map(|_| next()).collect()).collect();
    let (mut data, mut offsets) = (Vec::new(), vec![0]);
    for document in 0..DOCUMENTS {
        for _ in 0..=document % 12 {
            let point = &points[((next() + 1.0) * 15.0) as usize % 30];
            let row: Vec<f32> = point.iter().map(|x| x + 0.4 * next()).collect();
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            data.extend(row.iter().map(|x| x / length));
        }
        offsets.push(data.len() / DIM);
    }
    MultiVectors::new(data, offsets, DIM).expect("sizes that fit")
}

fn cpu(threads: usize) -> Cpu {
    Cpu { threads, ..Cpu::detect().expect("one that there is") }
}

fn built(documents: &MultiVectors, nbits: usize, partitions: usize, cpu: Cpu) -> PlaidBuilder {
    let rows = MatrixView::Float32(documents.data());
    let mut builder =
        PlaidBuilder::train(rows, DIM, nbits, partitions, cpu, &mut |_| Ok(())).expect("finite");
    // In two portions, of numbers that are not places.
    let numbers: Vec<i64> = (0..DOCUMENTS as i64).map(|place| 7 + 3 * place).collect();
    let (offsets, half) = (documents.offsets(), DOCUMENTS / 2);
    let (first, rest) = documents.data().split_at(offsets[half] * DIM);
    let later: Vec<usize> = offsets[half..].iter().map(|offset| offset - offsets[half]).collect();
    let add = |builder: &mut PlaidBuilder, numbers: &[i64], data, offsets: &[usize]| {
        builder
            .add(numbers, MatrixView::Float32(data), offsets, cpu, &mut |_| Ok(()))
            .expect("sizes that fit");
    };
    add(&mut builder, &numbers[..half], first, &offsets[..=half]);
    add(&mut builder, &numbers[half..], rest, &later);
    builder
}

fn segment(builder: &PlaidBuilder) -> (tempfile::TempDir, PlaidSegment) {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("segment");
    builder.write(&path).expect("room");
    let segment = PlaidSegment::open(&path).expect("as it was written");
    (folder, segment)
}

fn search(k: usize, n_ivf_probe: Option<usize>, n_full_scores: usize) -> PlaidSearch {
    PlaidSearch { k, n_ivf_probe, n_full_scores }
}

#[test]
fn scores_are_nearly_those_of_maxsim() {
    let documents = documents(1);
    for (nbits, most) in [(2, 0.5), (4, 0.15)] {
        let (_folder, segment) = segment(&built(&documents, nbits, 64, cpu(2)));
        assert_eq!((segment.dim(), segment.nbits(), segment.partitions()), (DIM, nbits, 64));
        assert_eq!((segment.rows().len(), segment.rows()[1]), (DOCUMENTS, 10));
        for query in [3, 40, 395] {
            let query = documents.get(query);
            let exact = maxsim(query, &documents).expect("finite");
            let all = search(DOCUMENTS, None, DOCUMENTS);
            let found = segment.search(query, all, None, cpu(2), &mut |_| Ok(())).expect("finite");
            assert_eq!(found.len(), DOCUMENTS);
            assert!(found.is_sorted_by(|first, second| first.1 >= second.1));
            for (place, score) in found {
                let off = (score - exact[place as usize]).abs() / (query.len() / DIM) as f32;
                assert!(off < most, "{nbits} bits: {off}");
            }
        }
    }
}

#[test]
fn every_stage_finds_a_document_by_itself() {
    let documents = documents(2);
    let (_folder, segment) = segment(&built(&documents, 4, 64, cpu(2)));
    for options in [search(1, None, 1), search(1, None, 30), search(1, Some(1), 1), search(3, Some(8), 20)] {
        let mut missed = 0;
        for place in (0..DOCUMENTS).filter(|place| place % 12 > 4) {
            let query = documents.get(place);
            let found = segment.search(query, options, None, cpu(2), &mut |_| Ok(())).expect("finite");
            assert!(found.len() <= options.k);
            missed += usize::from(found.iter().all(|(found, _)| *found as usize != place));
        }
        assert!(missed <= 3, "{options:?}: {missed} missed");
    }
}

/// The share of the ten best by MaxSim that are found, for queries of rows of many documents.
fn recall(documents: &MultiVectors, segment: &PlaidSegment, options: PlaidSearch) -> f64 {
    let mut found = 0;
    for start in 0..40 {
        let rows = (0..8).flat_map(|i| &documents.data()[(31 * start + 157 * i) * DIM..][..DIM]);
        let query: Vec<f32> = rows.copied().collect();
        let exact = maxsim(&query, documents).expect("finite");
        let mut order: Vec<usize> = (0..DOCUMENTS).collect();
        order.sort_by(|first, second| exact[*second].total_cmp(&exact[*first]));
        let hits = segment.search(&query, options, None, cpu(2), &mut |_| Ok(())).expect("finite");
        found += hits.iter().filter(|(place, _)| order[..10].contains(&(*place as usize))).count();
    }
    found as f64 / 400.0
}

#[test]
fn a_shortlist_by_parts_is_nearly_as_good_as_all() {
    let documents = documents(7);
    let (_folder, segment) = segment(&built(&documents, 4, 16, cpu(2)));
    let of = |n_full_scores| recall(&documents, &segment, search(10, None, n_full_scores));
    let all = of(DOCUMENTS);
    assert!(all > 0.9, "{all}");
    assert!(
        of(20) > all - 0.02,
        "{} of {all}; by centroids alone it would be .56, with one length .85",
        of(20)
    );
}

#[test]
fn only_documents_near_the_query_are_candidates_where_few_cells_are_looked_into() {
    let documents = documents(8);
    let (_folder, segment) = segment(&built(&documents, 4, 64, cpu(2)));
    let found = |probe| {
        let options = search(DOCUMENTS - 1, Some(probe), 1);
        segment.search(documents.get(84), options, None, cpu(2), &mut |_| Ok(())).expect("finite")
    };
    let counts = [1, 4, 16, 63].map(|probe| found(probe).len());
    assert!(counts.is_sorted() && counts[0] < DOCUMENTS / 4 && counts[0] > 0, "{counts:?}");
    assert_eq!(found(64).len(), DOCUMENTS - 1);
    assert_eq!(found(1)[0].0, 84);
}

#[test]
fn of_equal_documents_the_first_are_found() {
    let one = documents(9);
    let rows = one.get(11);
    let data: Vec<f32> = (0..DOCUMENTS).flat_map(|_| rows).copied().collect();
    let offsets = (0..=DOCUMENTS).map(|document| document * rows.len() / DIM).collect();
    let documents = MultiVectors::new(data, offsets, DIM).expect("sizes that fit");
    let (_folder, segment) = segment(&built(&documents, 4, 4, cpu(2)));
    let found = segment.search(rows, search(150, None, 250), None, cpu(2), &mut |_| Ok(())).expect("finite");
    assert_eq!(found.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (0..150).collect::<Vec<_>>());
}

#[test]
fn only_places_that_may_be_found_are() {
    let documents = documents(3);
    let (_folder, segment) = segment(&built(&documents, 4, 64, cpu(2)));
    let places: Vec<u32> = (0..DOCUMENTS as u32).filter(|place| place % 7 == 2).collect();
    for options in [search(5, None, 8), search(500, Some(2), 1000), search(0, None, 5), search(57, None, 1)] {
        let query = documents.get(9);
        let found = segment.search(query, options, Some(&places), cpu(1), &mut |_| Ok(())).expect("finite");
        assert!(found.iter().all(|(place, _)| places.contains(place)));
        assert_eq!(found.len(), found.iter().map(|(place, _)| place).collect::<HashSet<_>>().len());
        assert_eq!(found.len(), options.k.min(places.len()), "{options:?}");
    }
    assert!(
        segment
            .search(documents.get(9), search(5, None, 5), Some(&[]), cpu(1), &mut |_| Ok(()))
            .is_ok_and(|found| found.is_empty())
    );
}

#[test]
fn neither_threads_nor_instructions_change_what_is_found() {
    let documents = documents(4);
    let fused = Simd::available().into_iter().filter(|simd| !["portable", "simd128"].contains(&simd.name()));
    let cpus: Vec<Cpu> =
        fused.flat_map(|simd| [1, 2, 5].map(|threads| Cpu { simd, threads })).chain([cpu(1)]).collect();
    let of = |cpu: &Cpu| {
        let (_folder, segment) = segment(&built(&documents, 4, 64, *cpu));
        let search = |query| {
            segment.search(documents.get(query), search(20, Some(4), 30), None, *cpu, &mut |_| Ok(()))
        };
        [1, 77, 300].map(|query| search(query).expect("finite"))
    };
    assert!(cpus.windows(2).all(|pair| of(&pair[0]) == of(&pair[1])));
}

#[test]
fn a_damaged_file_is_refused_or_searched_and_never_ends_the_process() {
    let documents = documents(5);
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("segment");
    built(&documents, 2, 32, cpu(1)).write(&path).expect("room");
    let whole = std::fs::read(&path).expect("it is there");
    for length in (0..whole.len()).step_by(991).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).expect("room");
        assert!(matches!(PlaidSegment::open(&path), Err(Error::Model { .. } | Error::Io { .. })), "{length}");
    }
    let mut refused = 0;
    for place in (8..whole.len()).step_by(53) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xff;
        std::fs::write(&path, &bytes).expect("room");
        let searched = PlaidSegment::open(&path).and_then(|segment| {
            segment.search(documents.get(8), search(10, Some(3), 12), None, cpu(1), &mut |_| Ok(()))
        });
        refused += usize::from(searched.is_err());
    }
    assert!(refused > 10);
    assert!(matches!(PlaidSegment::open(&folder.path().join("none")), Err(Error::Missing { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let documents = documents(6);
    let rows = MatrixView::Float32(documents.data());
    let train = |sample, dim, nbits, partitions| {
        PlaidBuilder::train(sample, dim, nbits, partitions, cpu(1), &mut |_| Ok(())).err()
    };
    assert!(matches!(train(rows, DIM, 3, 8), Some(Error::Argument { name, .. }) if name == "nbits"));
    assert!(matches!(train(rows, DIM, 4, 0), Some(Error::Argument { name, .. }) if name == "partitions"));
    assert!(
        matches!(train(rows, DIM, 4, 1 << 17), Some(Error::Argument { name, .. }) if name == "partitions")
    );
    assert!(matches!(train(MatrixView::Float32(&[]), DIM, 4, 8), Some(Error::Shape { .. })));
    assert!(matches!(train(MatrixView::Float32(&[f32::NAN; DIM]), DIM, 4, 8), Some(Error::Argument { .. })));
    let mut builder = built(&documents, 4, 8, cpu(1));
    let mut add = |numbers: &[i64], rows: &[f32], offsets: &[usize]| {
        builder.add(numbers, MatrixView::Float32(rows), offsets, cpu(1), &mut |_| Ok(())).err()
    };
    let row = [0.5; DIM];
    assert!(matches!(add(&[1], &row, &[0, 1]), Some(Error::Argument { name, .. }) if name == "rows"));
    assert!(matches!(add(&[5000, 5001], &row, &[0, 1]), Some(Error::Shape { .. })));
    assert!(matches!(add(&[5000, 5001], &row, &[0, 0, 1]), Some(Error::Shape { .. })));
    assert!(matches!(add(&[5000], &row[1..], &[0, 1]), Some(Error::Shape { .. })));
    assert!(matches!(add(&[5000], &[f32::INFINITY; DIM], &[0, 1]), Some(Error::Argument { .. })));
    assert!(add(&[5000], &row, &[0, 1]).is_none());
    let (_folder, segment) = segment(&builder);
    assert_eq!(segment.rows().len(), DOCUMENTS + 1);
    let found = |query: &[f32], places: Option<&[u32]>| {
        segment.search(query, search(3, None, 3), places, cpu(1), &mut |_| Ok(())).err()
    };
    assert!(matches!(found(&row[1..], None), Some(Error::Shape { .. })));
    assert!(matches!(found(&[], None), Some(Error::Shape { .. })));
    assert!(matches!(found(&[f32::NAN; DIM], None), Some(Error::Argument { .. })));
    assert!(matches!(found(&row, Some(&[3, 2])), Some(Error::Argument { name, .. }) if name == "places"));
    assert!(
        matches!(found(&row, Some(&[DOCUMENTS as u32 + 1])), Some(Error::Argument { name, .. }) if name == "places")
    );
    let mut stop = |_| Err(Error::Interrupted);
    assert!(matches!(PlaidBuilder::train(rows, DIM, 4, 8, cpu(1), &mut stop), Err(Error::Interrupted)));
}
