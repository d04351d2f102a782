CREATE OR REPLACE TRIGGER cenote_feed_insert AFTER INSERT ON {schema}.kv REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.cenote_feed();
CREATE OR REPLACE TRIGGER cenote_feed_update AFTER UPDATE ON {schema}.kv REFERENCING OLD TABLE AS changed NEW TABLE AS became
    FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.cenote_feed();
CREATE OR REPLACE TRIGGER cenote_feed_delete AFTER DELETE ON {schema}.kv REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT WHEN (current_setting('cenote.writer', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.cenote_feed();
CREATE OR REPLACE TRIGGER cenote_feed_truncate AFTER TRUNCATE ON {schema}.kv
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.cenote_feed();
