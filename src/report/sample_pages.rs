//! Made-up data for every page of the status page: one with a bit of
//! everything, seen by somebody who may act, and one with nothing at all.

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde_json::json;

use super::sample;

/// What every page is given, once full and once bare. One context serves all
/// pages, because no two mean different things by the same name.
pub(super) fn contexts() -> [Value; 2] {
    [full(), bare()]
}

const AT: &str = "2026-11-20T02:00:00Z";
const ID: &str = "0197c1aa-0000-7000-8000-000000000001";

fn full() -> Value {
    let finding = json!({
        "state": "new", "code": "index.unused", "severity": "warning", "target": "app",
        "object": "public.i", "message": "The index has not been used for 90 days.",
        "suggestion": "DROP INDEX CONCURRENTLY public.i;", "run": ID,
    });
    let step = json!({
        "seq": 1, "object": "public.i", "action": "reindex", "status": "failed",
        "reason": "bloat 43%", "statement": "REINDEX INDEX CONCURRENTLY public.i;", "rows": 5,
        "bytes_before": 2_000, "bytes_after": 1_000, "started_at": AT, "duration_ms": 3_000,
        "attempts": 2, "error": "canceling statement due to lock timeout",
        "lock_waits": [{
            "attempt": 1, "blocker_pid": 99, "blocker_user": "app", "blocker_application": "",
            "blocker_state": "active", "blocker_query_age_ms": 1, "waited_ms": 3_000,
            "stepped_back": false, "relation": null,
        }],
        "throttled": [{ "setting": "pause_file", "reason": "/run/maint/pause exists", "waited_ms": 60_000 }],
        "predicted_ms": 40_000,
    });
    let run = |status: &str| {
        json!({
            "id": ID, "short_id": "0197c1aa-0000", "task": "reindex", "kind": "reindex",
            "target": "app", "trigger": "schedule", "status": status, "scheduled_for": AT,
            "started_at": AT, "finished_at": AT, "duration_ms": 3_000, "inspect_ms": 12,
            "rows": 5, "bytes_before": 2_000, "bytes_after": 1_000, "error": "one step failed",
            "host": "db-tools", "pid": 4711, "part": "--set include=a", "steps": 2, "succeeded": 1, "failed": 1,
            "findings": { "info": 0, "warning": 1, "critical": 1 },
        })
    };
    // The page of a run has the steps themselves.
    let mut whole = run("running");
    whole["steps"] = json!([step]);
    whole["findings"] = json!([finding]);
    let at_work = json!({
        "action": "reindex", "object": "public.i", "phase": "building index", "done": 1,
        "total": 4, "waiting": "replica lag 12 s",
    });
    let heat = json!({ "svg": "<svg></svg>", "told": "26 weeks: 9 runs succeeded" });
    let trends: Vec<_> = sample::report()
        .trends
        .iter()
        .map(|trend| json!({ "trend": trend, "svg": "<svg></svg>" }))
        .collect();
    let own = json!({
        "running": [{
            "run": run("running"), "for_ms": 3_000, "here": { "planned": 4, "ended": 1 },
            "steps": [at_work],
        }],
        "latest": [run("partial")],
        "runs": [run("partial")],
        "run": whole,
        "word": "row", "is_running": true, "asked": "somebody", "more": 3, "failed": 1,
        "for_ms": 3_000,
        "heat": heat,
        "findings": [finding], "all": 4,
        "ahead": {
            "next": [{ "at": AT, "schedule": "weekly", "paused": true, "tasks": ["reindex"] }],
            "missed": [{ "at": AT, "schedule": "weekly", "reason": "nobody was there" }],
            "pauses": [{ "schedule": "weekly", "since": AT, "until": AT, "by": "somebody" }],
        },
        "next": "1795420800000.0197c1aa", "paged": true, "wrong": true,
        "task": "reindex", "target": "app", "status": "partial",
        "targets": ["app"], "statuses": ["partial"],
        "trends": trends,
        "verdict": {
            "verdict": "attention", "headline": "Needs attention", "period": "the last 7 days",
            "reasons": [{ "verdict": "attention", "text": "reindex failed" }],
        },
        "plan": {
            "considered": 9, "pending": [{ "object": "public.j", "reason": "no statistics" }],
            "steps": [{ "action": "reindex", "object": "public.i", "reason": "bloat 43%" }],
            "skipped": [{ "object": "public.k", "reason": "exclusion constraint" }],
            "findings": [finding],
        },
        "urgent": [{
            "target": "app", "configured": true, "last_run": AT, "last_success": AT, "failed": ["reindex"],
            "worst": {
                "severity": "critical", "code": "index.unused", "object": "public.i",
                "message": "The index has not been used for 90 days.", "run": ID,
            },
            "partly": ["vacuum"], "more": 2, "size": 2_000, "size_before": 1_000,
        }],
        "well": 1, "days": 30,
        "well_rows": [{
            "target": "archive", "configured": false, "last_run": null, "last_success": null, "failed": [],
            "worst": null, "partly": [], "more": 0, "size": null, "size_before": null,
        }],
        "most": 50, "wait": 6,
        "error": { "title": "There is no such page", "text": "look elsewhere", "status": 404 },
        "nonce": "sample", "path": "/", "form_token": "sample", "may_act": true,
        "has_token": true, "instance": "db-tools", "now": AT,
    });
    // What can be started, what there is to filter by, and what is shown of
    // each task, in one.
    let tasks = json!([{
        "task": "reindex", "target": "app", "name": "reindex", "kind": "reindex",
        "description": "once a week", "enabled": false, "targets": ["app"],
        "schedules": ["weekly"], "heat": heat,
        "lines": [{
            "target": "app", "runs": 9, "failed": 1, "id": ID, "status": "partial",
            "started_at": AT, "duration_ms": 3_000, "last_success_at": AT,
        }],
    }]);
    context! { tasks => Value::from(Serde(&tasks)), ..Value::from(Serde(&own)) }
}

fn bare() -> Value {
    let run = json!({
        "id": ID, "task": "reindex", "kind": "reindex", "target": "app", "trigger": "manual",
        "status": "succeeded", "scheduled_for": null, "started_at": AT, "finished_at": AT,
        "duration_ms": 0, "inspect_ms": 0, "rows": 0, "bytes_before": 0, "bytes_after": 0,
        "error": null, "host": "db-tools", "pid": 4711, "part": null, "steps": [], "findings": [],
    });
    Value::from(Serde(&json!({
        "running": [], "latest": [], "runs": [], "run": run, "word": "document", "is_running": false,
        "asked": null, "more": 0, "failed": 0, "for_ms": 0,
        "heat": { "svg": "<svg></svg>", "told": "26 weeks: 0 runs succeeded" },
        "findings": [], "all": 0, "ahead": { "next": [], "missed": [], "pauses": [] },
        "next": null, "paged": false, "wrong": false, "task": "", "target": "", "status": "",
        "tasks": [], "targets": [], "statuses": [], "trends": [], "nonce": "sample",
        "verdict": {
            "verdict": "well", "headline": "All well", "period": "the last 7 days", "reasons": [],
        },
        "plan": { "considered": 0, "pending": [], "steps": [], "skipped": [], "findings": [] },
        "urgent": [], "well": 0, "well_rows": [], "days": 30,
        "most": 50, "wait": null,
        "error": { "title": "There is no such page", "text": "", "status": 404 },
        "path": "/", "form_token": null, "may_act": false, "has_token": false,
        "instance": "db-tools", "now": AT,
    })))
}
