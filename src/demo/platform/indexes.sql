--> building primary keys and unique constraints
ALTER TABLE users ADD PRIMARY KEY (id), ADD CONSTRAINT users_public_id_key UNIQUE (public_id);
ALTER TABLE courses ADD PRIMARY KEY (id);
ALTER TABLE lessons ADD PRIMARY KEY (id), ADD CONSTRAINT lessons_course_id_position_key UNIQUE (course_id, position);
ALTER TABLE enrollments ADD PRIMARY KEY (id), ADD CONSTRAINT enrollments_user_id_course_id_key UNIQUE (user_id, course_id);
ALTER TABLE user_progress ADD PRIMARY KEY (user_id, lesson_id);
ALTER TABLE quiz_attempts ADD PRIMARY KEY (id);
ALTER TABLE user_sessions ADD PRIMARY KEY (id), ADD CONSTRAINT user_sessions_token_hash_key UNIQUE (token_hash);
ALTER TABLE learning_sessions ADD PRIMARY KEY (id);
ALTER TABLE adaptive_changes ADD PRIMARY KEY (id);
ALTER TABLE behavioral_indicators ADD PRIMARY KEY (id);
ALTER TABLE learning_analytics ADD PRIMARY KEY (id),
  ADD CONSTRAINT learning_analytics_period_key UNIQUE (user_id, course_id, period_start);
ALTER TABLE analytics_events ADD PRIMARY KEY (id, "timestamp");

--> building indexes
CREATE UNIQUE INDEX users_email_idx ON users (lower(email));
CREATE INDEX users_country_idx ON users (country);
CREATE INDEX users_public_id_hash_idx ON users USING hash (public_id);
CREATE INDEX users_preferences_idx ON users USING gin (preferences jsonb_path_ops);
CREATE INDEX users_last_seen_at_idx ON users (last_seen_at) WHERE deleted_at IS NULL;
CREATE INDEX courses_tags_idx ON courses USING gin (tags);
CREATE INDEX enrollments_status_idx ON enrollments (status);
CREATE INDEX enrollments_course_id_idx ON enrollments (course_id) INCLUDE (status, progress_percent);
CREATE INDEX user_progress_updated_at_idx ON user_progress (updated_at);
CREATE INDEX user_progress_lesson_id_idx ON user_progress (lesson_id);
CREATE INDEX quiz_attempts_user_id_lesson_id_idx ON quiz_attempts (user_id, lesson_id);
-- Superfluous beside the one above, as found on most systems.
CREATE INDEX quiz_attempts_user_id_idx ON quiz_attempts (user_id);
CREATE INDEX quiz_attempts_started_at_idx ON quiz_attempts (started_at);
CREATE INDEX user_sessions_user_id_idx ON user_sessions (user_id);
CREATE INDEX user_sessions_expires_at_idx ON user_sessions (expires_at);
CREATE INDEX learning_sessions_user_id_idx ON learning_sessions (user_id);
CREATE INDEX learning_sessions_started_at_idx ON learning_sessions (started_at);
CREATE INDEX learning_sessions_device_idx ON learning_sessions (device);
CREATE INDEX adaptive_changes_session_idx ON adaptive_changes (learning_session_id);
CREATE INDEX adaptive_changes_created_at_brin ON adaptive_changes USING brin (created_at);
CREATE INDEX behavioral_indicators_user_id_recorded_at_idx ON behavioral_indicators (user_id, recorded_at);
CREATE INDEX behavioral_indicators_recorded_at_idx ON behavioral_indicators (recorded_at);
CREATE INDEX behavioral_indicators_indicator_idx ON behavioral_indicators (indicator);
CREATE INDEX learning_analytics_computed_at_idx ON learning_analytics (computed_at);
CREATE INDEX analytics_events_user_id_timestamp_idx ON analytics_events (user_id, "timestamp");
CREATE INDEX analytics_events_timestamp_brin ON analytics_events USING brin ("timestamp");

--> building full-text indexes
CREATE INDEX courses_search_idx ON courses USING gin (search);
CREATE INDEX lessons_search_idx ON lessons USING gin (to_tsvector('english', title || ' ' || body));

--> adding foreign keys
ALTER TABLE courses ADD FOREIGN KEY (author_id) REFERENCES users;
ALTER TABLE lessons ADD FOREIGN KEY (course_id) REFERENCES courses ON DELETE CASCADE;
ALTER TABLE enrollments ADD FOREIGN KEY (user_id) REFERENCES users, ADD FOREIGN KEY (course_id) REFERENCES courses;
ALTER TABLE user_progress ADD FOREIGN KEY (user_id) REFERENCES users, ADD FOREIGN KEY (lesson_id) REFERENCES lessons;
ALTER TABLE quiz_attempts ADD FOREIGN KEY (user_id) REFERENCES users, ADD FOREIGN KEY (lesson_id) REFERENCES lessons;
ALTER TABLE user_sessions ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE learning_sessions ADD FOREIGN KEY (user_id) REFERENCES users, ADD FOREIGN KEY (course_id) REFERENCES courses;
ALTER TABLE behavioral_indicators ADD FOREIGN KEY (user_id) REFERENCES users;
ALTER TABLE learning_analytics ADD FOREIGN KEY (user_id) REFERENCES users, ADD FOREIGN KEY (course_id) REFERENCES courses;
-- Added when the orphans were there already, and never validated since.
ALTER TABLE adaptive_changes ADD FOREIGN KEY (learning_session_id) REFERENCES learning_sessions ON DELETE CASCADE NOT VALID;

--> adding extended statistics
CREATE STATISTICS users_country_locale_stats (dependencies, mcv) ON country, locale FROM users;
CREATE STATISTICS enrollments_status_progress_stats ON status, progress_percent FROM enrollments;

--> building materialized views
CREATE MATERIALIZED VIEW mv_user_learning_summary AS
SELECT user_id, count(*) AS courses, count(*) FILTER (WHERE status = 'completed') AS completed,
  round(avg(progress_percent), 1) AS mean_progress, max(enrolled_at) AS last_enrolled_at
FROM enrollments GROUP BY user_id;
CREATE UNIQUE INDEX mv_user_learning_summary_user_id_idx ON mv_user_learning_summary (user_id);
CREATE MATERIALIZED VIEW mv_course_performance AS
SELECT courses.id AS course_id, courses.title, count(enrollments.id) AS learners,
  round(avg(enrollments.progress_percent), 1) AS mean_progress
FROM courses LEFT JOIN enrollments ON enrollments.course_id = courses.id GROUP BY courses.id, courses.title;
CREATE UNIQUE INDEX mv_course_performance_course_id_idx ON mv_course_performance (course_id);

--> vacuuming and analyzing
-- Not "Legacy Grades" and not this month's events, which are still empty:
-- nobody ever analyzed those.
VACUUM (ANALYZE) users, courses, lessons, enrollments, user_progress, quiz_attempts, user_sessions, learning_sessions,
  adaptive_changes, behavioral_indicators, learning_analytics, mv_user_learning_summary, mv_course_performance;

--> analyzing the partitions
DO $$
DECLARE
  partition regclass;
BEGIN
  FOR partition IN
    SELECT inhrelid FROM pg_inherits
    WHERE inhparent = 'analytics_events'::regclass
      AND inhrelid::regclass::text <> 'analytics_events_' || to_char(now(), '"y"YYYY"m"MM')
  LOOP
    EXECUTE format('ANALYZE %s', partition);
  END LOOP;
END $$;
